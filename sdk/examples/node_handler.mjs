// A handler in Node without any library, of the event's JSON alone: opens a ticket, attaches files,
// threads replies, and never answers a machine. It takes one event from standard input:
//
//   export POSTHOUSE_URL=https://posthouse.example.com
//   export POSTHOUSE_HANDLER_TOKEN=... POSTHOUSE_SIGNING_KEY=...  (shown when the handler is made)
//   node node_handler.mjs my-handler 't=...,v1=...' tickets < event.json
//
// Acknowledge the event where it ends with 0; else give it again later.
import { createHash } from "node:crypto";
import { createWriteStream, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { verify } from "./verify_node.mjs";

const AUTOMATIC = ["auto-reply", "bounce", "receipt", "complaint", "list"];
const { POSTHOUSE_URL, POSTHOUSE_HANDLER_TOKEN, POSTHOUSE_SIGNING_KEY = "" } = process.env;
const [handler, signature, folder] = process.argv.slice(2);
const octets = readFileSync(0);
verify(handler, octets, signature, POSTHOUSE_SIGNING_KEY.split(/[\s,]+/).filter(Boolean));
const event = JSON.parse(octets);
const { mail, headers } = event.data;

// One ticket a thread; names of folders and files are made here, whatever the sender wrote.
const thread = createHash("sha256").update(mail.thread || event.id).digest("hex").slice(0, 16);
const ticket = join(folder, thread);
// What somebody asked for once more (a certificate was attached, say) has a number of its own.
const again = event.data.redelivery ? `/${event.data.redelivery.count}` : "";
const entry = join(ticket, `${createHash("sha256").update(event.id + again).digest("hex").slice(0, 16)}.json`);
if (existsSync(entry)) process.exit(0); // it came before: events may come twice
mkdirSync(ticket, { recursive: true });

const isAttachment = (part) =>
  part.disposition === "attachment" || part.name || !["text/plain", "text/html"].includes(part.content_type);
const files = [];
for (const part of (mail.parts ?? []).filter(isAttachment)) {
  const address = new URL(`/api/v1/messages/${event.id}/parts/${part.path}`, POSTHOUSE_URL);
  const answer = await fetch(address, { headers: { Authorization: `Bearer ${POSTHOUSE_HANDLER_TOKEN}` } });
  if (!answer.ok) throw new Error(`part ${part.path}: ${answer.status}`);
  const name = `${event.id.slice(-6)}-${part.path}-${part.name.replace(/[^\p{L}\p{N}. -]/gu, "_")}`.slice(0, 60);
  await pipeline(answer.body, createWriteStream(join(ticket, name)));
  files.push(name);
}

let answer = null;
if (!AUTOMATIC.includes(mail.kind)) {
  const before = (mail.references?.length ? mail.references : mail.in_reply_to ?? []).filter((id) => id !== headers.message_id);
  answer = {
    To: (mail.reply_to?.length ? mail.reply_to : mail.from).map((one) => one.address),
    Subject: /^re:/i.test(headers.subject) ? headers.subject : `Re: ${headers.subject}`,
    ...(headers.message_id && {
      "In-Reply-To": headers.message_id,
      References: [...before.slice(0, 1), ...before.slice(1).slice(-20), headers.message_id].join(" "),
    }),
  };
}
// Written last: what broke off before is done anew.
writeFileSync(entry, JSON.stringify({ from: mail.from, subject: headers.subject, kind: mail.kind, text: mail.reply_text || mail.text, files, answer }));
