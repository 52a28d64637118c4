// Forms: only the fields of the chosen mode, questions before deleting, copying, testing.

import { follow } from "./progress.js";

export function attach(root, enliven) {
  for (const box of root.querySelectorAll("[data-focus]")) box.focus();
  for (const form of root.querySelectorAll("form[data-confirm]")) askFirst(form);
  for (const button of root.querySelectorAll("button[data-confirm]")) askBefore(button);
  for (const button of root.querySelectorAll("[data-copy]")) offerCopy(button);
  for (const form of root.querySelectorAll("form[data-mode-form]")) followMode(form);
  for (const button of root.querySelectorAll("button[data-into]")) showAnswer(button, enliven);
  for (const form of root.querySelectorAll("form[data-test-on-choice]")) testOnChoice(form);
  for (const box of root.querySelectorAll("input[data-check-all]")) checkAll(box);
  for (const box of root.querySelectorAll("[data-reveals]")) reveal(box);
  for (const form of root.querySelectorAll("form[data-once]")) sendOnce(form);
}

function askFirst(form) {
  form.addEventListener("submit", (event) => {
    if (!confirm(form.dataset.confirm)) event.preventDefault();
  });
}

// One of several buttons of a form that asks first.
function askBefore(button) {
  button.addEventListener("click", (event) => {
    if (!confirm(button.dataset.confirm)) event.preventDefault();
  });
}

function offerCopy(button) {
  const text = button.parentElement.querySelector("pre, input");
  if (!navigator.clipboard || !text) return;
  button.hidden = false;
  const label = button.textContent;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText((text.value ?? text.textContent).trim());
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 2000);
  });
}

// A part marked data-modes="imap pop3" is shown, and sent, in these modes alone.
function followMode(form) {
  const field = form.dataset.modeField || "mode";
  const mode = form.elements[field];
  const port = form.elements.port;
  const security = form.elements.security;
  const ports = JSON.parse(form.dataset.ports || "{}");
  const known = new Set(Object.values(ports).map(String));
  const update = () => {
    const chosen = mode.value;
    for (const section of form.querySelectorAll("[data-modes]")) {
      const wanted = section.dataset.modes.split(" ").includes(chosen);
      section.hidden = !wanted;
      for (const control of section.querySelectorAll("input, select, textarea, button")) {
        control.disabled = !wanted;
      }
    }
    // In some modes a credential may stand in its place.
    const optional = (form.dataset.passwordOptional || "").split(" ").includes(chosen);
    if (optional && form.elements.password) form.elements.password.required = false;
    if (port && security && (port.value === "" || known.has(port.value))) {
      port.value = ports[`${chosen} ${security.value}`] ?? "";
    }
  };
  form.addEventListener("change", (event) => {
    if (event.target.name === field || event.target.name === "security") update();
  });
  update();
}

// A submit button with data-into shows the answer in that place instead of leaving the page.
function showAnswer(button, enliven) {
  button.addEventListener("click", async (event) => {
    const form = button.form;
    const place = document.getElementById(button.dataset.into);
    if (!place) return;
    event.preventDefault();
    button.setAttribute("aria-busy", "true");
    try {
      const last = await follow(button.formAction, new FormData(form), place, button.dataset.waiting || "One moment…");
      if (last === null) return;
      place.innerHTML = last.html;
      enliven(place);
      place.scrollIntoView({ block: "nearest" });
    } catch {
      place.textContent = "Posthouse did not answer. Try again in a moment.";
    } finally {
      button.removeAttribute("aria-busy");
    }
  });
}

// Application access needs no login, so it is tested once such a credential and a username are there.
function testOnChoice(form) {
  const chosen = () => {
    const select = [...form.querySelectorAll("select[name=credential_id]")].find((s) => !s.disabled);
    const option = select?.selectedOptions[0];
    if (option?.dataset.application === undefined || !form.elements.username.value) return "";
    return [form.elements.mode.value, option.value, form.elements.username.value].join("\n");
  };
  let tested = chosen();
  form.addEventListener("change", () => {
    const now = chosen();
    if (now && now !== tested) form.querySelector("button[data-into]").click();
    tested = now;
  });
}

function checkAll(box) {
  const boxes = () => box.form.querySelectorAll(`input[name="${box.dataset.checkAll}"]`);
  box.addEventListener("change", () => {
    for (const other of boxes()) other.checked = box.checked;
  });
}

// A control with data-reveals="id" shows that part while its value (or tick) is data-when.
function reveal(control) {
  const target = document.getElementById(control.dataset.reveals);
  if (!target) return;
  const update = () => {
    const boxed = control.type === "checkbox" || control.type === "radio";
    target.hidden = boxed ? !control.checked : control.value !== control.dataset.when;
  };
  const listened = control.type === "radio" ? control.form : control;
  listened.addEventListener("change", update);
  update();
}

function sendOnce(form) {
  form.addEventListener("submit", () => {
    for (const button of form.querySelectorAll("button")) button.setAttribute("aria-busy", "true");
    setTimeout(() => {
      for (const button of form.querySelectorAll("button")) button.disabled = true;
    });
  });
  // A page that comes back out of the browser's history can be sent again.
  addEventListener("pageshow", () => {
    for (const button of form.querySelectorAll("button")) {
      button.disabled = false;
      button.removeAttribute("aria-busy");
    }
  });
}
