// Consumes a handler's queue in Node, on Redis (npm install redis) or on RabbitMQ (npm install amqplib):
//
//   import { consume, Reject, Retry } from "./node_consumer.mjs";
//   await consume(url, "my-handler", async (event) => { ... });
//
// The callback gets the event as an object, one at a time. Returning acknowledges it; throwing Reject moves
// it to the dead letters with the reason; throwing Retry brings it back after a time and is no failure;
// throwing anything else brings it back later, and to the dead letters after ten deliveries (see DEFAULTS).
// Others are handled meanwhile. SIGTERM and SIGINT end it when the callback that runs has ended. The queue
// is never made here: Posthouse makes it, also after the broker lost it. Types: tsc with `allowJs`.
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { verify } from "./verify_node.mjs";

const GROUP = "posthouse";
const DEFAULTS = {
  deliveries: 10, // before an event is given up
  staleMs: 60_000, // Redis: after which what another consumer has, or what failed, is taken over
  againMs: 10_000, // RabbitMQ: until what failed comes again
};

/** @typedef {(event: import("../schema/mail-received.v1.d.ts").MailReceived) => unknown} Callback */

/** Throw it in a callback: this event never. */
export class Reject extends Error {}

/** Throw it in a callback: not now, again in so many seconds, of which `staleMs` (Redis) and 15 minutes are the most. */
export class Retry extends Error {
  constructor(delayS = 30, reason = "not now") {
    super(reason);
    this.delayMs = Math.min(delayS, 900) * 1000;
  }
}

const keys = () => (process.env.POSTHOUSE_SIGNING_KEY ?? "").split(/[\s,]+/).filter(Boolean);

/**
 * Runs until SIGTERM or SIGINT; waits where the broker or the queue is away.
 * @param {string} url
 * @param {string} handler
 * @param {Callback} callback
 * @param {Partial<typeof DEFAULTS>} options
 */
export async function consume(url, handler, callback, options = {}) {
  if (!keys().length) throw new Error("set POSTHOUSE_SIGNING_KEY to what Posthouse showed with the token");
  const stop = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"]) process.once(name, () => stop.abort());
  const once = /^amqps?:/.test(url) ? fromRabbitmq : fromRedis;
  while (!stop.signal.aborted) {
    try {
      await once(url, handler, callback, stop.signal, { ...DEFAULTS, ...options });
    } catch (error) {
      const hopeless = ["ERR_MODULE_NOT_FOUND", "ERR_INVALID_URL"].includes(error.code);
      if (hopeless || /WRONGPASS|NOAUTH|NOPERM|ACCESS_REFUSED|403/.test(error.message)) throw error; // waiting does not help
      console.error(`waiting for the queue: ${error.message}`);
      await sleep(1000, undefined, { signal: stop.signal }).catch(() => {});
    }
  }
}

/**
 * What is to be done with an event: `undefined` (handled), an Error, a Retry, or a Reject.
 * @param {string} handler
 * @param {Buffer} octets
 * @param {string} signature
 * @param {Callback} callback
 */
async function outcome(handler, octets, signature, callback) {
  let event;
  try {
    verify(handler, octets, signature, keys());
    event = JSON.parse(octets.toString());
  } catch (error) {
    return new Reject(`not verified: ${error.message}`);
  }
  try {
    await callback(event);
  } catch (error) {
    if (error instanceof Reject) console.error(`event ${event.id} rejected: ${error.message}`);
    else if (error instanceof Retry) console.error(`event ${event.id} put off: ${error.message}`);
    else console.error(`event ${event.id}:`, error);
    return error instanceof Error ? error : new Error(String(error));
  }
}

/** @type {(error: Error, deliveries: number) => string} */
const reasonOf = (error, deliveries) =>
  error instanceof Reject ? error.message : `gave up after ${deliveries} deliveries: ${error.message}`;

/** @type {(url: string, handler: string, callback: Callback, stop: AbortSignal, options: typeof DEFAULTS) => Promise<void>} */
async function fromRedis(url, handler, callback, stop, { deliveries: most, staleMs }) {
  const { createClient } = await import("redis");
  const client = createClient({ url, socket: { reconnectStrategy: false } });
  client.on("error", () => {}); // it comes from the command, too
  await client.connect();
  const [key, consumer] = [`posthouse:handler:${handler}`, `${hostname()}-node-${process.pid}`];
  let position = "0-0"; // how far it looked for what is stale
  try {
    while (!stop.aborted) {
      const stale = await client.xAutoClaim(key, GROUP, consumer, staleMs, position, { COUNT: 1 });
      position = stale.nextId;
      let entry = stale.messages.find(Boolean);
      if (!entry) {
        const streams = await client.xReadGroup(GROUP, consumer, { key, id: ">" }, { COUNT: 1, BLOCK: 1000 });
        entry = streams?.[0]?.messages[0];
      }
      if (!entry) continue;
      const { event = "", signature = "" } = entry.message;
      // A sign of life, as a callback may take longer than others wait.
      const alive = setInterval(
        () => client.xClaimJustId(key, GROUP, consumer, 0, entry.id).catch(() => {}), staleMs / 4);
      const error = await outcome(handler, Buffer.from(event), signature, callback).finally(() => clearInterval(alive));
      const [pending] = error ? await client.xPendingRange(key, GROUP, entry.id, entry.id, 1) : [];
      const deliveries = pending?.deliveriesCounter ?? 1;
      if (error instanceof Retry) { // stale after that time, and not counted
        const again = { IDLE: Math.max(0, staleMs - error.delayMs), RETRYCOUNT: deliveries - 1 };
        await client.xClaimJustId(key, GROUP, consumer, 0, entry.id, again);
        continue;
      }
      if (error && !(error instanceof Reject) && deliveries < most) continue; // it is stale in a minute
      const settled = client.multi();
      if (error) {
        const reason = reasonOf(error, deliveries);
        settled.xAdd(`${key}:dead`, "*", { event, signature, reason, deliveries: String(deliveries), position: entry.id });
      }
      await settled.xAck(key, GROUP, entry.id).exec();
    }
  } finally {
    client.destroy();
  }
}

/** @type {typeof fromRedis} */
async function fromRabbitmq(url, handler, callback, stop, { deliveries: most, againMs }) {
  const { connect } = await import("amqplib");
  const connection = await connect(url);
  const queue = `posthouse.handler.${handler}`;
  let working = Promise.resolve();
  let over = false;
  try {
    const channel = await connection.createConfirmChannel();
    await channel.prefetch(16);
    const ended = new Promise((resolve, reject) => {
      for (const source of [connection, channel]) {
        source.on("error", reject);
        source.on("close", () => reject(new Error("RabbitMQ closed the connection")));
      }
      stop.addEventListener("abort", resolve, { once: true });
      /** @param {import("amqplib").ConsumeMessage | null} message */
      const take = (message) => {
        working = working.then(() => (over || stop.aborted ? undefined : work(message))).catch(reject);
      };
      /** @type {(then: () => void, ms: number) => void} */
      const later = (then, ms) => void setTimeout(() => over || stop.aborted || then(), ms).unref();
      /** @type {(message: import("amqplib").ConsumeMessage | null) => Promise<void>} */
      const work = async (message) => {
        if (!message) throw new Error("Posthouse has not created the queue (again) yet");
        const headers = message.properties.headers ?? {};
        const signature = headers["x-posthouse-signature"];
        const error = await outcome(handler, message.content, signature, callback);
        const deliveries = (headers["x-delivery-count"] ?? 0) + 1;
        if (!error) return channel.ack(message);
        if (error instanceof Retry) return later(() => take(message), error.delayMs); // held here, so not counted
        if (!(error instanceof Reject) && deliveries < most) return later(() => channel.nack(message), againMs);
        channel.publish(`${queue}.dead`, "", message.content, {
          persistent: true,
          mandatory: true,
          headers: {
            "x-posthouse-signature": signature,
            "x-posthouse-reason": reasonOf(error, deliveries).slice(0, 1000),
            "x-posthouse-deliveries": deliveries,
            "x-posthouse-died-at": Math.floor(Date.now() / 1000),
          },
        });
        await channel.waitForConfirms();
        channel.ack(message);
      };
      channel.consume(queue, take).catch(reject);
    });
    await ended;
    await working;
    await channel.close(); // what was acknowledged is sent; what waits here goes back
  } finally {
    over = true;
    await connection.close().catch(() => {});
  }
}
