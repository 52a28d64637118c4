// The menu of a phone covers the page: while it is open, what is behind it takes no focus.

const phone = matchMedia("(max-width: 56rem)");

export function attach(root) {
  if (root !== document) return;
  const menu = document.getElementById("menu");
  if (!menu) return;
  const behind = document.querySelectorAll(".skip, .bar, main");
  let wasOpen = false;
  const update = () => {
    const open = location.hash === "#menu" && phone.matches;
    for (const part of behind) part.inert = open;
    if (open) menu.querySelector("a").focus();
    else if (wasOpen) document.querySelector(".menu-open")?.focus();
    wasOpen = open;
  };
  addEventListener("hashchange", update);
  phone.addEventListener("change", update);
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && location.hash === "#menu") location.hash = "#content";
  });
  update();
}
