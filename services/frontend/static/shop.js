// Comfort only: every page works without it.
"use strict";

// One order per press: the second press of a form that is under way does nothing.
for (const form of document.querySelectorAll("form[data-once]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
  addEventListener("pageshow", () => delete form.dataset.sent);
}

for (const form of document.querySelectorAll("form[data-submit-on-change]")) {
  form.addEventListener("change", () => form.reportValidity() && form.requestSubmit());
}

document.querySelector("[data-focus]")?.focus();

// The code of a mailed link stands behind the #, which browsers send to no server. A second link
// that is opened in this tab changes only that part, and loads no page.
const code = document.querySelector("[data-from-hash]");
if (code) {
  const take = () => {
    if (location.hash.length <= 20) return;
    code.value = location.hash.slice(1);
    history.replaceState(null, "", location.pathname);
  };
  take();
  addEventListener("hashchange", take);
}

// Times come in UTC; here they are the reader's own.
function localise(part) {
  const day = { day: "numeric", month: "long", year: "numeric" };
  const moment = { ...day, hour: "2-digit", minute: "2-digit", timeZoneName: "short" };
  for (const time of part.querySelectorAll("time[datetime]")) {
    const format = time.textContent.endsWith("UTC") ? moment : day;
    const text = new Intl.DateTimeFormat("en-GB", format).format(new Date(time.dateTime));
    time.textContent = text.replace(" at ", ", ");
  }
}
localise(document);

async function fetchDocument(path) {
  const answer = await fetch(path, { headers: { accept: "text/html" }, redirect: "error" });
  if (!answer.ok) throw new Error(`${answer.status} for ${path}`);
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

// An order's status, until nothing moves any more. Pauses grow while it stays the same.
const status = document.querySelector("[data-poll]");
if (status) {
  const shortest = Number(status.dataset.pollSeconds) * 1000;
  let pause = shortest;
  const look = async () => {
    try {
      const fresh = (await fetchDocument(status.dataset.poll)).querySelector("section");
      localise(fresh);
      const shown = status.querySelector("section");
      const same = fresh.textContent === shown.textContent;
      if (!same) shown.replaceWith(document.adoptNode(fresh));
      pause = same ? Math.min(pause * 1.3, 15000) : shortest;
      if (fresh.dataset.moving === "yes") setTimeout(look, pause);
    } catch {
      pause = Math.min(pause * 2, 30000);
      setTimeout(look, pause);
    }
  };
  if (status.querySelector("[data-moving=yes]")) setTimeout(look, shortest);
}

// "Load more" adds to the page instead of leaving it, and whoever comes back finds what was loaded.
document.addEventListener("click", async (event) => {
  const more = event.target.closest?.("[data-more-link]");
  if (!more) return;
  event.preventDefault();
  try {
    const grid = document.querySelector("[data-more] .grid");
    const next = await fetchDocument(more.href);
    const adopted = (nodes) => [...nodes].map((node) => document.adoptNode(node));
    const cards = adopted([...next.querySelectorAll("[data-more] .grid > li")].slice(grid.children.length));
    grid.append(...cards);
    cards[0]?.querySelector("a").focus({ preventScroll: true });
    more.parentElement.replaceWith(...adopted(next.querySelectorAll(".more")));
    history.replaceState(null, "", more.href.split("#")[0]);
  } catch {
    location.assign(more.href);
  }
});

// The mesh page keeps itself up to date while its box is ticked.
const live = document.querySelector("[data-live]");
if (live) {
  document.querySelector("[data-live-control]").hidden = false;
  const name = (one) => one.getAttribute("aria-label") ?? one.textContent.trim();
  let isAsking = false;
  setInterval(async () => {
    if (!live.checked || document.hidden || isAsking) return;
    isAsking = true;
    const fresh = await fetchDocument(location.pathname + location.search).catch(() => null);
    isAsking = false;
    const part = document.querySelector("[data-live-part]");
    const next = fresh?.querySelector("[data-live-part]");
    part.classList.toggle("is-stale", !next);
    if (!next || !live.checked) return;
    const focused = part.contains(document.activeElement) ? name(document.activeElement).split(":")[0] : null;
    const scrolled = new Map([...part.querySelectorAll(".scroll")].map((one) => [name(one), one.scrollLeft]));
    part.replaceWith(document.adoptNode(next));
    for (const one of next.querySelectorAll(".scroll")) one.scrollLeft = scrolled.get(name(one)) ?? 0;
    if (focused === null) return;
    const same = [...next.querySelectorAll("a, [tabindex]")].find((one) => name(one).split(":")[0] === focused);
    same?.focus({ preventScroll: true });
  }, 2000);
  // What is pointed at lies on top: SVG paints in document order.
  document.addEventListener("pointerover", (event) => {
    const edge = event.target.closest?.(".edge-link");
    if (edge && edge !== edge.parentElement.lastElementChild) edge.parentElement.append(edge);
  });
}
