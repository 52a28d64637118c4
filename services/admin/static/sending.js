// Forms with data-form="name" are sent without leaving the page: what was typed stays, secrets too,
// whatever comes back. A secret never comes back from Posthouse, so the browser alone can keep it.

import { sessionEnded } from "./fetching.js";

export function attach(root, enliven) {
  for (const form of root.querySelectorAll("form[data-form]")) {
    form.addEventListener("input", () => { form.dataset.changed = "yes"; });
    form.addEventListener("submit", (event) => send(form, event, enliven));
  }
}

async function send(form, event, enliven) {
  if (event.defaultPrevented) return; // somebody said no when asked
  event.preventDefault();
  if (form.dataset.sending) return;
  const button = event.submitter;
  form.dataset.sending = "yes";
  button?.setAttribute("aria-busy", "true");
  try {
    const address = button?.getAttribute("formaction") || form.getAttribute("action");
    let answer = await post(form, address, button);
    if (answer.status === 400 && await renewProof()) answer = await post(form, address, button);
    if (answer.status === 204) location.assign(answer.headers.get("x-location"));
    else if (isLogin(answer)) sessionEnded();
    else take(form, new DOMParser().parseFromString(await answer.text(), "text/html"), answer.status, enliven);
  } catch {
    say(form, "Posthouse did not answer. What you typed is still here: try again in a moment.");
  } finally {
    delete form.dataset.sending;
    button?.removeAttribute("aria-busy");
  }
}

async function post(form, address, button) {
  const answer = await fetch(address, {
    method: "POST",
    body: new FormData(form, button),
    headers: { "x-form": "yes" },
    credentials: "same-origin",
  });
  return answer;
}

function isLogin(answer) {
  return answer.redirected && new URL(answer.url).pathname === "/login";
}

// After another login the proof that this page sent the form is another one. False: it is the same.
async function renewProof() {
  const answer = await fetch(location.href, { credentials: "same-origin" });
  if (isLogin(answer)) return false;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const proof = page.querySelector("input[name=csrf]")?.value;
  const all = [...document.querySelectorAll("input[name=csrf]")];
  if (!proof || all.every((one) => one.value === proof)) return false;
  for (const one of all) one.value = proof;
  return true;
}

function take(form, page, status, enliven) {
  const fresh = page.querySelector(`form[data-form="${form.dataset.form}"]`);
  if (fresh && (status === 422 || fresh.dataset.typed !== undefined)) keepTyped(form, fresh);
  if (status === 422 && fresh) {
    fresh.dataset.changed = "yes";
    form.replaceWith(fresh);
    enliven({ querySelectorAll: (marks) => [...document.querySelectorAll(marks)].filter((one) => fresh.contains(one)) });
    return;
  }
  show(page, enliven);
}

/** Shows the content of another page in place of this one's. */
export function show(page, enliven) {
  const main = document.querySelector("main");
  main.replaceChildren(...page.querySelector("main").childNodes);
  document.title = page.title;
  scrollTo(0, 0);
  main.focus();
  enliven(main);
}

// What was typed and does not come back: secrets, and files. The lines of a list come back, and not
// always under the name that they had.
function keepTyped(form, fresh) {
  for (const old of form.querySelectorAll("input, textarea")) {
    if (old.closest("[data-comes-back]")) continue;
    const now = fresh.elements.namedItem(old.name);
    if (!(now instanceof HTMLElement) || ["checkbox", "radio", "hidden"].includes(old.type)) continue;
    if (old.type === "file") now.files = old.files;
    else if (now.value === "") now.value = old.value;
  }
}

function say(form, text) {
  form.querySelector("[data-said]")?.remove();
  const note = document.createElement("p");
  note.className = "notice bad";
  note.dataset.said = "";
  note.setAttribute("role", "alert");
  note.textContent = text;
  form.prepend(note);
  note.scrollIntoView({ block: "nearest" });
}
