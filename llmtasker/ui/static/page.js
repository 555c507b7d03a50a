/* Comfort only: every page can be read and every form sent without this file. */
"use strict";
const root = document.documentElement, $ = (q, from = document) => from.querySelector(q);
const post = (url, body) => fetch(url, { method: "POST", body, headers: { "HX-Request": "true" } });
const part = (url) => fetch(url, { headers: { "HX-Request": "true" } });
// the HTML of an answer; a session that is over leads to the page that asks for the key
const html = async (asking) => {
  const found = await asking, to = found.headers.get("HX-Redirect");
  if (to) { location.href = to; return { ok: false, text: "" }; }
  return { ok: found.ok, text: await found.text() };
};

// theme: the system's until the button is used; the server keeps the choice and writes data-theme
const theme = $("#theme"), dark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
theme.setAttribute("aria-pressed", dark());
theme.addEventListener("click", (event) => {
  event.preventDefault();
  root.dataset.theme = dark() ? "light" : "dark";
  theme.setAttribute("aria-pressed", dark());
  const form = new FormData($("#theme-form"));
  form.set("theme", root.dataset.theme);
  post($("#theme-form").action, form);
});

// the drop zone shows that it will take the file, and which one it has
const drop = $(".drop");
for (const [name, on] of [["dragenter", true], ["dragleave", false], ["drop", false]])
  drop?.addEventListener(name, () => drop.classList.toggle("over", on));
$("#file")?.addEventListener("change", (event) => { $("#chosen-file").textContent = event.target.files[0]?.name ?? ""; });

// a row more in a form, without asking the server
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-add]"), body = button && $(button.dataset.add);
  if (!body) return;
  event.preventDefault();
  const row = body.lastElementChild.cloneNode(true), number = body.children.length + 1;
  for (const one of row.querySelectorAll("input, textarea")) { one.value = ""; one.textContent = ""; }
  for (const one of row.querySelectorAll("[aria-label]")) one.setAttribute("aria-label", one.getAttribute("aria-label").replace(/\d+/, number));
  if (/^l\d$/.test(row.className)) row.className = `l${Math.min(number, 9)}`;
  if ($("kbd", row)) number < 10 ? ($("kbd", row).textContent = number) : $("kbd", row).remove();
  body.append(row);
  $("input, textarea", row).focus();
});

// what was typed is kept when the page is left before it was sent
const task = $("#task");
let typed = false;
task?.addEventListener("input", () => { typed = true; });
task?.addEventListener("submit", () => { typed = false; });
addEventListener("pagehide", () => { if (typed) navigator.sendBeacon(task.dataset.hxPost, new FormData(task)); });

// a run whose server does not answer: its figures are old until the next ones come
addEventListener("htmx:error", (event) => {
  const progress = $("#progress");
  if (!progress || !progress.contains(event.target) || $("#away")) return;
  const note = document.createElement("p");
  note.id = "away";
  note.className = "note warn";
  note.setAttribute("role", "alert");
  note.textContent = document.body.dataset.away;
  progress.prepend(note);
});

// step 7 is the open menu of step 5
const openMenu = () => { if (location.hash === "#export") $("#export")?.setAttribute("open", ""); };
openMenu();
addEventListener("hashchange", openMenu);

// results: keys work only while the focus is in the table or in the open row (WCAG 2.1.4)
const rows = $("#rows"), place = rows?.dataset.rows;
if (rows) {
  const seen = new Map(), done = []; // fragments that were fetched; what `u` takes back
  let current = $("[aria-current]", rows);
  const drawer = () => $("#row"), number = (tr) => tr?.dataset.row;
  const ask = (key) => html(part(place + key)).then((found) => (found.ok ? found.text : ""), () => "");
  const fetched = (tr) => {
    const key = number(tr);
    if (key && !seen.has(key)) seen.set(key, ask(key));
    return key ? seen.get(key) : undefined;
  };
  const put = (html, open) => {
    if (!html) return;
    const box = document.createElement("template");
    box.innerHTML = html;
    const next = $("aside", box.content);
    if (!next) return;
    next.classList.toggle("open", open);
    drawer().replaceWith(next);
  };
  const open = async (tr, show = drawer().classList.contains("open")) => {
    if (!tr) return;
    current?.removeAttribute("aria-current");
    current = tr;
    tr.setAttribute("aria-current", "true");
    tr.scrollIntoView({ block: "nearest" });
    put(await fetched(tr), show);
    fetched(tr.nextElementSibling);
  };
  // whether the open row lies over the table
  const over = () => drawer().matches(".open, :target") && getComputedStyle(drawer()).position === "fixed";
  const shut = () => { drawer().classList.remove("open"); if (drawer().matches(":target")) location.replace("#rows"); };
  // at the end of a page, the page beside it; what is being sent is waited for
  let sending = Promise.resolve();
  const turn = async (way) => {
    const page = $(`.pager a[rel=${way}]`);
    if (!page) return;
    await sending;
    location.href = `${page.href}${way === "prev" ? "&open=last" : ""}${over() ? "#row" : "#go"}`;
  };
  const go = async (tr, way) => {
    if (!tr) return way ? turn(way) : undefined;
    if (!over()) $("a", tr).focus({ preventScroll: true });
    await open(tr);
    if (over()) drawer().focus();
  };
  const next = () => go(current ? current.nextElementSibling : rows.firstElementChild, "next");
  const said = (text) => { const live = $("#said"); if (live) live.textContent = text; };
  // what the row shows is what its fragment says, so that both always agree
  const shown = (tr, html) => {
    const box = document.createElement("template");
    box.innerHTML = html;
    for (const cell of ["chip", "marks"]) {
      const now = $(`template[data-cell=${cell}]`, box.content);
      if (now) $(`[data-cell=${cell}]`, tr).replaceChildren(now.content);
    }
    return $("[data-cell=chip]", tr).textContent.trim();
  };
  const refused = (tr, key, text) => {
    const note = $("#refused") ?? document.createElement("p");
    note.id = "refused";
    note.className = "note warn";
    note.setAttribute("role", "alert");
    const about = drawer().dataset.number === key ? "" : `${$("input", tr)?.getAttribute("aria-label") ?? key} – `;
    note.textContent = about + (text || document.body.dataset.unreachable);
    $("#correct")?.prepend(note);
  };
  const send = async (tr, key, form) => {
    const sent = html(post(place + key, form)).catch(() => ({ ok: false, text: "" }));
    seen.set(key, sent.then((found) => (found.ok ? found.text : ask(key)))); // who opens the row meanwhile waits for it
    const answer = await sent;
    if (!answer.ok) {
      if (drawer().dataset.number === key && !$("#correct textarea")) $("#correct").reset();
      refused(tr, key, answer.text.replace(/<[^>]*>/g, "").trim());
      return;
    }
    if (tr) said(`${key}: ${shown(tr, answer.text)}`);
    if (drawer().dataset.number === key) put(answer.text, drawer().classList.contains("open"));
  };
  // a decision is shown at once and stored meanwhile; `on`: the next row is opened
  const decide = async (form, on) => {
    const tr = current, key = drawer().dataset.number;
    if (tr && number(tr) !== key) return;
    done.push([tr, key, form.get("csrf")]);
    sending = send(tr, key, form);
    if (on) await next();
  };
  const accept = () => {
    const by = $("#correct [name=accept]");
    return by ? decide(new FormData($("#correct"), by), true) : $("#correct [name=undo]") ? next() : undefined;
  };
  const label = async (key, on) => {
    const choice = $("#correct .keys")?.querySelectorAll("input")[key - 1];
    if (!choice || (current && number(current) !== drawer().dataset.number)) return;
    const several = choice.type === "checkbox"; // the row stays open for its other labels
    choice.checked = several ? !choice.checked : true;
    await decide(new FormData($("#correct")), on && !several);
    if (several) await sending;
  };
  const undo = async () => {
    const [tr, key, csrf] = done.pop() ?? [];
    if (!key) return;
    const form = new FormData();
    form.set("csrf", csrf);
    form.set("undo", "1");
    await go(tr);
    sending = send(tr, key, form);
  };
  // keys that come faster than rows are opened wait for their turn
  let acting = Promise.resolve();
  const act = (what) => { acting = acting.then(what, what); };
  rows.addEventListener("click", (event) => {
    if (event.target.matches("input")) return;
    if (event.target.closest("a")) event.preventDefault();
    open(event.target.closest("tr"), true);
  });
  $("#pick-all")?.addEventListener("change", (event) => { for (const one of rows.querySelectorAll("[name=picked]")) one.checked = event.target.checked; });
  document.addEventListener("change", (event) => {
    if (event.target.name !== "label" || event.target.type !== "radio" || !event.target.closest("#correct")) return;
    decide(new FormData($("#correct")), false);
  });
  document.addEventListener("submit", (event) => {
    if (event.target.id !== "correct") return;
    event.preventDefault();
    const by = event.submitter, form = new FormData(event.target, by);
    if (by?.name === "undo") send(current, drawer().dataset.number, form);
    else decide(form, by?.name === "accept");
  });
  document.addEventListener("click", (event) => {
    const step = event.target.closest("[data-go]");
    const beside = step && (step.dataset.go === "1" ? current?.nextElementSibling : current?.previousElementSibling);
    if (beside) { event.preventDefault(); open(beside, true); }
    else if (step && current) { event.preventDefault(); turn(step.dataset.go === "1" ? "next" : "prev"); }
    if (event.target.closest(".shut")) drawer().classList.remove("open");
  });
  document.addEventListener("keydown", (event) => {
    const at = event.target;
    if (event.ctrlKey || event.metaKey || event.altKey || at.matches("textarea, select, input:not([type=radio], [type=checkbox])")) return;
    if (!at.closest("#rows, #row")) return;
    const key = event.key;
    if (key === "j") act(next);
    else if (key === "k") act(() => go(current?.previousElementSibling, "prev"));
    else if (key >= "1" && key <= "9") act(() => label(Number(key), Boolean(at.closest("#rows")) || at.id === "row"));
    else if (key === "a") act(accept);
    else if (key === "e") $("#correct [name=as_example]")?.click();
    else if (key === "?") $("#help summary").click();
    else if (key === "u") act(undo);
    else if (key === "x") $("input", current ?? rows)?.click();
    else if (key === "/") $("#q").focus();
    else if (key === "Escape" && $("#help").open) $("#help").open = false;
    else if (key === "Escape") { shut(); if (current) $("a", current).focus(); }
    else return;
    event.preventDefault();
  });
  if (location.hash === "#go" && current) $("a", current).focus();
  fetched(current?.nextElementSibling);
}
