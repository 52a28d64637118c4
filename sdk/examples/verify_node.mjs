// Checks the signature of an event in Node, with nothing but its standard library. As a program it
// reads an event from standard input and ends with status 0 where Posthouse signed it:
//
//   POSTHOUSE_SIGNING_KEY=... node verify_node.mjs my-handler 't=...,v1=...' < event.json
import { createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const MAX_AGE_MS = 60 * 24 * 3600 * 1000;

/**
 * Throws unless `event` (the octets as they came) was signed for `handler` with one of `keys`.
 * @param {string} handler
 * @param {Buffer} event
 * @param {string | undefined} signature
 * @param {string[]} keys
 */
export function verify(handler, event, signature, keys) {
  const form = /^t=([0-9]{1,15})((?:,v1=[0-9a-f]{64}){1,4})$/.exec(signature ?? "");
  if (!form) throw new Error("it is not signed");
  const given = form[2].split(",v1=").slice(1).map((hex) => Buffer.from(hex, "hex"));
  const fits = keys.some((key) => {
    const mac = createHmac("sha256", key).update(`${handler}.${form[1]}.`).update(event).digest();
    return given.some((one) => timingSafeEqual(one, mac));
  });
  if (!fits) throw new Error("its signature is by no key that is given here");
  if (Date.now() - Number(form[1]) > MAX_AGE_MS) throw new Error("it may be a replay");
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [handler, signature] = process.argv.slice(2);
  const keys = (process.env.POSTHOUSE_SIGNING_KEY ?? "").split(/[\s,]+/).filter(Boolean);
  try {
    verify(handler, readFileSync(0), signature, keys);
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
}
