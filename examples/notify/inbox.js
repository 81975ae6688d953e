// What was sent lately, by user, the same on every instance.

const KEPT = 50;         // notifications of one user; older ones are forgotten
const INBOXES_MAX = 500; // users; who was sent nothing for the longest is forgotten

export class Inboxes {
  #users = new Map(); // user → Map of id → note, oldest first

  has(user, id) {
    return this.#users.get(user)?.has(id) ?? false;
  }

  // of lists a user's notes, oldest first.
  of(user) {
    return [...(this.#users.get(user)?.values() ?? [])];
  }

  // all lists every inbox.
  all() {
    return [...this.#users.keys()].map((user) => this.of(user));
  }

  // add keeps a note and says whether it is new.
  add(note) {
    const inbox = this.#users.get(note.to) ?? new Map();
    this.#users.delete(note.to);
    this.#users.set(note.to, inbox); // now the last to be forgotten
    if (this.#users.size > INBOXES_MAX) this.#users.delete(this.#users.keys().next().value);
    if (inbox.has(note.id)) return false;
    inbox.set(note.id, note);
    const last = [...inbox.values()].at(-2);
    if (last && last.at > note.at) { // told later by another instance
      const sorted = [...inbox.values()].sort((a, b) => (a.at < b.at ? -1 : 1));
      inbox.clear();
      for (const n of sorted) inbox.set(n.id, n);
    }
    if (inbox.size > KEPT) inbox.delete(inbox.keys().next().value);
    return true;
  }

  // read marks notes as read and says whether any was not.
  read(user, ids) {
    const unread = ids.map((id) => this.#users.get(user)?.get(id)).filter((note) => note && !note.read);
    for (const note of unread) note.read = true;
    return unread.length > 0;
  }
}
