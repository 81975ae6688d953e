// morph makes an element's content what html says and leaves what is the same as
// it is: focus, selection and scrolling stay. Elements are known again by data-key
// or id; what is inside of one with data-keep is its script's own.
export function morph(element, html) {
  const wanted = document.createElement("template");
  wanted.innerHTML = html;
  children(element, wanted.content);
}

const keyOf = (node) => (node.nodeType === 1 ? node.getAttribute("data-key") || node.id || null : null);

const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);

function children(have, want) {
  const known = new Map();
  for (const node of have.childNodes) if (keyOf(node)) known.set(keyOf(node), node);
  let at = have.firstChild;
  for (const wanted of [...want.childNodes]) {
    const found = keyOf(wanted) ? known.get(keyOf(wanted)) : at && !keyOf(at) && alike(at, wanted) ? at : null;
    if (found && alike(found, wanted)) {
      if (found === at) at = at.nextSibling;
      else have.insertBefore(found, at);
      same(found, wanted);
    } else {
      have.insertBefore(wanted, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function same(have, want) {
  if (have.nodeType !== 1) {
    if (have.nodeValue !== want.nodeValue) have.nodeValue = want.nodeValue;
    return;
  }
  if (have.hasAttribute("data-keep")) return;
  for (const { name } of [...have.attributes]) if (!want.hasAttribute(name)) have.removeAttribute(name);
  for (const { name, value } of want.attributes) if (have.getAttribute(name) !== value) have.setAttribute(name, value);
  children(have, want);
}
