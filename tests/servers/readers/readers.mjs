// Two readers of mail by others: a line of base64 in, a line of JSON out.
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import { simpleParser } from "mailparser";
import PostalMime from "postal-mime";

const addresses = (list) =>
  (list ?? []).flatMap((one) => (one.group ? addresses(one.group) : [one.address ?? ""]));

const lists = (found) => (found ? [found].flat() : []);
const instant = (date) => (date && !Number.isNaN(new Date(date).getTime()) ? new Date(date).toISOString() : "");

const ids = (found) => [found ?? []].flat().join(" ").match(/<[^<>\s]+>/g) ?? [];
const digest = (content) => createHash("sha256").update(new Uint8Array(content)).digest("hex");
const files = (found) => found.map((one) => [one.filename ?? "", (one.contentType ?? one.mimeType).toLowerCase(), digest(one.content)]);

async function mailparser(raw) {
  const mail = await simpleParser(raw, { skipTextToHtml: true, skipImageLinks: true });
  return {
    authors: lists(mail.from).flatMap((one) => addresses(one.value)),
    to: lists(mail.to).flatMap((one) => addresses(one.value)),
    subject: mail.subject ?? "",
    date: instant(mail.date),
    references: ids(mail.references),
    in_reply_to: ids(mail.inReplyTo),
    files: files(mail.attachments),
    text: mail.text ?? "",
    html: mail.html || "",
  };
}

async function postalMime(raw) {
  const mail = await PostalMime.parse(raw, { forceRfc822Attachments: true });
  return {
    authors: addresses(mail.from ? [mail.from] : []),
    to: addresses(mail.to),
    subject: mail.subject ?? "",
    date: instant(mail.date),
    references: ids(mail.references),
    in_reply_to: ids(mail.inReplyTo),
    files: files(mail.attachments),
    text: mail.text ?? "",
    html: mail.html ?? "",
  };
}

async function tried(read, raw) {
  try {
    return await read(raw);
  } catch (error) {
    return { error: String(error) };
  }
}

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  const raw = Buffer.from(line, "base64");
  const answer = { mailparser: await tried(mailparser, raw), "postal-mime": await tried(postalMime, raw) };
  process.stdout.write(JSON.stringify(answer) + "\n");
}
