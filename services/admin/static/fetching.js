// Fetching parts of pages as this browser's session.

/** The part of a page at `address`, or null where the session ended (the page then reloads).
    With `onlyFine`, an answer that is an error is thrown and not shown. */
export async function part(address, { onlyFine = false, ...options } = {}) {
  const answer = await fetch(address, {
    ...options,
    headers: { "x-part": "yes", ...(options.headers || {}) },
    credentials: "same-origin",
  });
  if (answer.redirected && new URL(answer.url).pathname === "/login") {
    location.reload();
    return null;
  }
  if (onlyFine && !answer.ok) throw new Error(`answered ${answer.status}`);
  return answer.text();
}

/** Sends the fields of a form, as it stands, to `address`. */
export function sendForm(form, address, options = {}) {
  return part(address, { method: "POST", body: new FormData(form), ...options });
}
