// Receives the events of a forwarded handler and verifies them, with nothing but Node (18 or later).
//
// WEBHOOK_SECRET=whsec_… node webhook_receiver.mjs [port]
//
// What is signed, and how: https://www.standardwebhooks.com/ (its library does `verify` below too).
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const key = Buffer.from(process.env.WEBHOOK_SECRET.replace(/^whsec_/, ""), "base64");
const seen = new Set(); // in earnest: a table, in the transaction of what the event leads to

/** Whether Posthouse posted this within the last five minutes. */
function verify(headers, body) {
  const { "webhook-id": id, "webhook-timestamp": at, "webhook-signature": given } = headers;
  if (!id || !at || !given || Math.abs(Date.now() / 1000 - Number(at)) > 300) return false;
  const wanted = createHmac("sha256", key).update(`${id}.${at}.`).update(body).digest();
  return given.split(" ").some((part) => {
    const one = Buffer.from(part.replace(/^v1,/, ""), "base64");
    return one.length === wanted.length && timingSafeEqual(one, wanted);
  });
}

createServer(async (request, answer) => {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  const body = Buffer.concat(pieces);
  const verified = verify(request.headers, body);
  const id = request.headers["webhook-id"];
  if (verified && !seen.has(id)) { // a repeat has the same id
    const { headers } = JSON.parse(body).data;
    console.log(`${headers.from}: ${headers.subject}`);
    seen.add(id);
  }
  answer.writeHead(verified ? 204 : 401).end(); // any 2xx acknowledges; else the event comes again
}).listen(Number(process.argv[2] ?? 9000), "127.0.0.1");
