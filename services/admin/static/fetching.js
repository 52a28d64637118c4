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
    sessionEnded();
    return null;
  }
  if (onlyFine && !answer.ok) throw new Error(`answered ${answer.status}`);
  return answer.text();
}

/** The session ended: the page begins anew, unless something was typed into it that would go. */
export function sessionEnded() {
  if (!document.querySelector("form[data-changed]")) {
    location.reload();
    return;
  }
  if (document.getElementById("session-ended")) return;
  const note = document.createElement("p");
  note.id = "session-ended";
  note.className = "notice bad";
  note.setAttribute("role", "alert");
  const link = document.createElement("a");
  link.href = "/login";
  link.target = "_blank";
  link.textContent = "Log in again in another tab";
  note.append("Your session has ended. What you typed is still here. ", link, ", then send the form again.");
  document.querySelector("main").prepend(note);
  note.scrollIntoView({ block: "nearest" });
}
