// What pages do beyond HTML: `/` goes to the search, a click on the time line to its cause, times show the reader's zone on
// hover, what goes on is followed, and the live tail follows new lines. Every page works without it.
"use strict";

document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const rows = [...document.querySelectorAll("tbody tr a, ol.story li a")];
  const at = rows.indexOf(document.activeElement);
  if (event.key === "/") {
    document.querySelector("input[type=search]")?.focus();
    event.preventDefault();
  } else if (event.key === "j" && rows.length) {
    rows[Math.min(at + 1, rows.length - 1)].focus();
  } else if (event.key === "k" && rows.length) {
    rows[Math.max(at - 1, 0)].focus();
  }
});

document.querySelector("svg[data-base]")?.addEventListener("click", (event) => {
  const shape = event.target.closest("[data-to]");
  if (shape) location.assign(event.currentTarget.dataset.base + shape.dataset.to);
});

for (const time of document.querySelectorAll("time[datetime]")) {
  const here = new Date(time.dateTime);
  if (!Number.isNaN(here.valueOf())) time.title = `${time.title}\n${here.toLocaleString()} here`.trim();
}

// A page of something that goes on is fetched again until it says that it is over; what has the focus keeps it.
const again = async () => {
  const live = document.querySelector("[data-live]");
  const seconds = Number(live?.dataset.live);
  if (!seconds) return;
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  try {
    const answer = await fetch(location.href);
    if (!answer.ok || answer.redirected) return;
    const text = await answer.text();
    const next = new DOMParser().parseFromString(text, "text/html").querySelector("[data-live]");
    if (next && !live.contains(document.activeElement)) live.replaceWith(next);
  } catch {
    // the API is away for a moment
  }
  again();
};
again();

const tail = document.querySelector("[data-tail]");
if (tail) {
  const state = document.querySelector("[data-tail-state]");
  const list = document.querySelector("[data-tail-list]");
  const pause = document.querySelector("[data-tail-pause]");
  const waiting = [];
  let paused = false;
  let lostAt = null;
  const say = () => {
    if (lostAt) state.textContent = `lost since ${lostAt.toLocaleTimeString()}; connecting`;
    else if (paused) state.textContent = `paused, ${waiting.length} new`;
    else state.textContent = "live";
  };
  const add = (line) => {
    const item = document.createElement("li");
    const time = document.createElement("time");
    time.textContent = line.at;
    const text = document.createElement(line.href ? "a" : "span");
    if (line.href) text.href = line.href;
    text.textContent = line.text;
    item.append(time, text);
    list.prepend(item);
    while (list.children.length > 500) list.lastElementChild.remove();
  };
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Resume" : "Pause";
    if (!paused) waiting.splice(0).forEach(add);
    say();
  });
  const source = new EventSource(tail.dataset.tail);
  source.addEventListener("open", () => {
    lostAt = null;
    say();
  });
  source.addEventListener("error", () => {
    lostAt ??= new Date();
    say();
  });
  source.addEventListener("line", (event) => {
    const line = JSON.parse(event.data);
    if (paused) waiting.push(line);
    else add(line);
    say();
  });
}
