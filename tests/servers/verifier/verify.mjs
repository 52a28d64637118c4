// Standard Webhooks' own verifier: reads lines of JSON {secret, headers, body}, answers "true" or why not.
import { createInterface } from "node:readline";
import { Webhook } from "standardwebhooks";

for await (const line of createInterface({ input: process.stdin })) {
  const { secret, headers, body } = JSON.parse(line);
  try {
    new Webhook(secret).verify(body, headers);
    console.log("true");
  } catch (error) {
    console.log(error.message);
  }
}
