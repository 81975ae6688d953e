// What instances tell each other, over a bus that speaks Redis. The bus keeps
// nothing: who is not subscribed when something is published asks for it later.

import { createClient } from "redis";

const WAITING_MAX = 1000; // envelopes on their way to the bus; more are refused

// connectBus returns the bus that the environment names, or null. heard gets
// every envelope, those of this instance too, and all instances get all of them
// in the same order.
export async function connectBus(name, heard) {
  const { REDIS_URL, REDIS_PREFIX = "" } = process.env;
  if (!REDIS_URL) return null;
  const channel = REDIS_PREFIX + name;
  const publisher = createClient({ url: REDIS_URL, disableOfflineQueue: true, commandsQueueMaxLength: WAITING_MAX });
  const subscriber = publisher.duplicate();
  for (const client of [publisher, subscriber]) client.on("error", (err) => console.error(`bus: ${err.message || err.code}`));
  await Promise.all([publisher.connect(), subscriber.connect()]);
  await subscriber.subscribe(channel, (text) => {
    try {
      heard(JSON.parse(text));
    } catch (err) {
      console.error(`bus: not understood: ${err.message}`); // not ours; the next one may be
    }
  });
  return {
    // publish returns how many instances heard it: 0 if the bus is away.
    async publish(envelope) {
      try {
        return await publisher.publish(channel, JSON.stringify(envelope));
      } catch (err) {
        console.error(`bus: not published: ${err.message}`);
        return 0;
      }
    },

    // again calls back each time the bus was away and is there again.
    again(back) {
      for (const client of [publisher, subscriber]) client.on("ready", back);
    },
  };
}
