// A handler in Node, of the event's JSON alone: opens a ticket, attaches files, threads replies, and
// never answers a machine.
//
//   npm install redis        (or amqplib)
//   export POSTHOUSE_URL=https://posthouse.example.com
//   export POSTHOUSE_HANDLER_TOKEN=... POSTHOUSE_SIGNING_KEY=...  (shown when the handler is made)
//   node node_handler.mjs redis://127.0.0.1:6379/0 my-handler tickets
import { createHash } from "node:crypto";
import { createWriteStream, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { pathToFileURL } from "node:url";
import { consume } from "./node_consumer.mjs";

const AUTOMATIC = ["auto-reply", "bounce", "receipt", "complaint", "list"];
const { POSTHOUSE_URL, POSTHOUSE_HANDLER_TOKEN } = process.env;

/**
 * Keeps what came of one mail in `folder`.
 * @param {import("../schema/mail-received.v1.d.ts").MailReceived} event
 * @param {string} folder
 */
export async function handle(event, folder) {
  const { mail = {}, headers: { message_id, subject = "" } } = event.data;

  // One ticket a thread; names of folders and files are made here, whatever the sender wrote.
  const thread = createHash("sha256").update(mail.thread || event.id).digest("hex").slice(0, 16);
  const ticket = join(folder, thread);
  // What somebody asked for once more (a certificate was attached, say) has a number of its own.
  const again = event.data.redelivery ? `/${event.data.redelivery.count}` : "";
  const entry = join(ticket, `${createHash("sha256").update(event.id + again).digest("hex").slice(0, 16)}.json`);
  if (existsSync(entry)) return; // it came before: events may come twice
  mkdirSync(ticket, { recursive: true });

  /** @param {NonNullable<typeof mail.parts>[number]} part */
  const isAttachment = (part) =>
    part.disposition === "attachment" || part.name || !/^(text\/(plain|html)$|multipart\/)/.test(part.content_type);
  const files = [];
  for (const part of (mail.parts ?? []).filter(isAttachment)) {
    const address = new URL(`/api/v1/messages/${event.id}/parts/${part.path}`, POSTHOUSE_URL);
    const answer = await fetch(address, { headers: { Authorization: `Bearer ${POSTHOUSE_HANDLER_TOKEN}` } });
    if (!answer.ok || !answer.body) throw new Error(`part ${part.path}: ${answer.status}`);
    const own = (part.name ?? "").replace(/[^\p{L}\p{N}. -]/gu, "_").slice(-36); // its end: the extension stays
    const name = `${event.id.slice(-6)}-${part.path}-${own}`;
    await pipeline(answer.body, createWriteStream(join(ticket, name)));
    files.push(name);
  }

  let answer = null;
  if (!AUTOMATIC.includes(mail.kind ?? "") && !mail.auto_reply_suppressed) {
    const answered = mail.in_reply_to?.length === 1 ? mail.in_reply_to : []; // RFC 5322 section 3.6.4
    const before = (mail.references?.length ? mail.references : answered).filter((id) => id !== message_id);
    answer = {
      To: (mail.reply_to?.length ? mail.reply_to : mail.from ?? []).map((one) => one.address),
      Subject: `Re: ${subject.replace(/^((re|aw|antw|sv|vs|odp|res|rif|ynt)\s*:\s*)+/i, "")}`,
      ...(message_id && {
        "In-Reply-To": message_id,
        References: [...before.slice(0, 1), ...before.slice(1).slice(-20), message_id].join(" "),
      }),
    };
  }
  // Written last: what broke off before is done anew.
  writeFileSync(entry, JSON.stringify({ from: mail.from, subject, kind: mail.kind, text: mail.reply_text || mail.text, files, answer }));
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [url, handler, folder] = process.argv.slice(2);
  await consume(url, handler, (event) => handle(event, folder));
}
