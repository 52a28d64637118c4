// Times in the reader's zone, with its name; the time in UTC is shown on pointing at it.

const form = new Intl.DateTimeFormat("en-GB", {
  year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit",
  second: "2-digit", hourCycle: "h23", timeZoneName: "short",
});

export function attach(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([data-local])")) {
    time.dataset.local = "";
    const at = read(time.dateTime);
    const local = `${at.year}-${at.month}-${at.day} ${at.hour}:${at.minute}:${at.second} ${at.timeZoneName}`;
    if (time.classList.contains("exact")) {
      time.title = time.textContent;
      time.textContent = local;
    } else if (time.title !== local) {
      time.title = `${local} (${time.title})`;
    }
  }
  // The hours of a chart.
  for (const chart of root.querySelectorAll("svg[data-hours]:not([data-local])")) {
    chart.dataset.local = "";
    for (const word of chart.querySelectorAll("[data-at]")) {
      const at = read(word.dataset.at);
      word.textContent = word.textContent.replace(/^\d\d:\d\d/, `${at.hour}:${at.minute}`);
      chart.setAttribute("aria-label", chart.getAttribute("aria-label").replace("UTC", at.timeZoneName));
    }
  }
}

function read(text) {
  return Object.fromEntries(form.formatToParts(new Date(text)).map(({ type, value }) => [type, value]));
}
