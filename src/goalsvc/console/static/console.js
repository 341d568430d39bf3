// What pages do beyond HTML: `/` goes to the search, `j` and `k` through rows, `c` copies the id of the page; a click on the time
// line leads to its cause, a drag selects a range; what goes on is followed, and the live tail follows new lines. Every page
// works without it.
"use strict";

const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

// -- ids that can be copied -----------------------------------------------------------------------------------------------

const copy = async (code, button) => {
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code);
    button.textContent = "Selected";
  }
};
const copies = all("code[data-copy]").map((code) => {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", () => copy(code, button));
  code.after(" ", button);
  return () => button.click();
});

// -- keys -----------------------------------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const rows = all("tbody tr, ol.story li").flatMap((row) => all("a[href]", row).slice(0, 1));
  const here = document.activeElement?.closest("tr, li");
  const at = rows.findIndex((link) => link.closest("tr, li") === here);
  if (event.key === "/") {
    document.querySelector("input[type=search]")?.focus();
    event.preventDefault();
  } else if (event.key === "j" && rows.length) {
    rows[Math.min(at + 1, rows.length - 1)].focus();
  } else if (event.key === "k" && rows.length) {
    rows[Math.max(at - 1, 0)].focus();
  } else if (event.key === "c" && copies.length) {
    copies[0]();
  }
});

// -- pictures: a click leads to the cause, a drag to a range of the time line ------------------------------------------------

for (const svg of all("svg[data-base]")) {
  svg.addEventListener("click", (event) => {
    const shape = event.target.closest("[data-to]");
    if (shape && !svg.dataset.dragged) location.assign(svg.dataset.base + shape.dataset.to);
    delete svg.dataset.dragged;
  });
}

const brush = (svg) => {
  const spans = svg.dataset.axis.split(";").map((span) => span.split(" ").map(Number));
  const first = spans[0], last = spans[spans.length - 1];
  const x = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    return Math.min(Math.max(point.x, first[0]), last[1]);
  };
  const instant = (place) => {
    const [left, right, since, until] = spans.find((span) => place <= span[1]) ?? last;
    const at = since + ((place - left) / (right - left || 1)) * (until - since);
    return new Date(Math.round(at)).toISOString().slice(0, 23);
  };
  let begin = null;
  const area = document.createElementNS(svg.namespaceURI, "rect");
  area.setAttribute("class", "brush");
  area.setAttribute("height", svg.viewBox.baseVal.height);
  const end = () => {
    begin = null;
    area.remove();
  };
  svg.addEventListener("pointerdown", (event) => {
    if (event.button === 0 && event.pointerType !== "touch") begin = x(event);
  });
  svg.addEventListener("pointermove", (event) => {
    if (begin === null) return;
    const here = x(event);
    if (Math.abs(here - begin) < 6) return area.remove();
    svg.setPointerCapture(event.pointerId);
    area.setAttribute("x", Math.min(begin, here));
    area.setAttribute("width", Math.abs(here - begin));
    svg.append(area);
  });
  svg.addEventListener("pointerup", (event) => {
    if (begin !== null && area.isConnected) {
      const [from, to] = [begin, x(event)].sort((a, b) => a - b).map(instant);
      svg.dataset.dragged = "yes";
      const address = new URL(location.href);
      address.searchParams.set("from", from);
      address.searchParams.set("to", to);
      location.assign(address);
    }
    end();
  });
  svg.addEventListener("pointercancel", end);
};
all("svg[data-axis]").forEach(brush);

// -- times ------------------------------------------------------------------------------------------------------------------

for (const time of all("time[datetime]")) {
  const here = new Date(time.dateTime);
  if (!Number.isNaN(here.valueOf())) time.title = `${time.title}\n${here.toLocaleString()} here`.trim();
}

// -- a page of something that goes on is fetched again until it says that it is over; what has the focus keeps it --------------

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

// -- the live tail ------------------------------------------------------------------------------------------------------------

const tail = document.querySelector("[data-tail]");
if (tail) {
  const state = document.querySelector("[data-tail-state]");
  const pause = document.querySelector("[data-tail-pause]");
  const empty = document.querySelector("[data-tail-empty]");
  const known = new Set(all("[data-id]", tail).map((line) => line.dataset.id));
  const waiting = [];
  let paused = false, connected = false, lostAt = null, place = "";
  const say = (text) => {
    const fresh = paused ? `, paused, ${waiting.length} new` : "";
    state.textContent = text ?? (lostAt ? `lost since ${lostAt.toLocaleTimeString()}; connecting${fresh}`
      : paused ? fresh.slice(2) : connected ? "live" : "connecting");
  };
  const add = (line) => {
    const item = document.createElement("li");
    const time = document.createElement("time");
    time.textContent = line.at ?? "";
    const text = document.createElement(line.href ? "a" : "span");
    if (line.href) text.href = line.href;
    text.textContent = line.text;
    item.append(time, text);
    // What is being read stays where it is.
    const from = tail.scrollHeight;
    tail.prepend(item);
    empty?.remove();
    if (scrollY > tail.offsetTop) scrollBy(0, tail.scrollHeight - from);
    while (tail.children.length > 500) tail.lastElementChild.remove();
  };
  const take = (event, line) => {
    place = event.lastEventId || place;
    if (line.id && known.has(line.id)) return;
    if (line.id) known.add(line.id);
    if (paused) waiting.push(line);
    else add(line);
    say();
  };
  const connect = () => {
    const address = new URL(tail.dataset.tail, location.href);
    if (place) address.searchParams.set("after", place);
    const source = new EventSource(address);
    source.addEventListener("open", () => {
      connected = true;
      lostAt = null;
      say();
    });
    source.addEventListener("line", (event) => take(event, JSON.parse(event.data)));
    source.addEventListener("gap", (event) => take(event, { text: "Lines are missing before this: they are no longer kept. Reload the page." }));
    source.addEventListener("error", async () => {
      lostAt ??= new Date();
      say();
      if (source.readyState !== EventSource.CLOSED) return; // the browser connects again by itself, after the last id
      const page = await fetch(location.href).catch(() => null);
      if (page?.redirected) say("logged out: reload the page to log in");
      else setTimeout(connect, 3000);
    });
  };
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Resume" : "Pause";
    if (!paused) waiting.splice(0).forEach(add);
    say();
  });
  say();
  connect();
}
