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
  const fetched = (tr) => {
    const key = number(tr);
    if (key && !seen.has(key)) seen.set(key, html(part(place + key)).then((found) => (found.ok ? found.text : ""), () => ""));
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
  const go = async (tr, focus = true) => { if (!tr) return; if (focus) $("a", tr).focus({ preventScroll: true }); await open(tr); };
  const said = (text) => { const live = $("#said"); if (live) live.textContent = text; };
  // what the row shows is what its fragment says, so that both always agree
  const shown = (tr, html) => {
    const box = document.createElement("template");
    box.innerHTML = html;
    const picked = [...box.content.querySelectorAll("#correct .keys :checked")].map((one) => one.closest("label"));
    const chip = $(".chip", tr);
    if (picked.length) {
      const dot = document.createElement("span"), text = document.createElement("span");
      dot.className = "dot";
      text.className = "clip-in";
      text.textContent = picked.map((one) => one.lastElementChild.textContent).join(" · ");
      chip.className = `chip ${picked[0].className}`;
      chip.replaceChildren(dot, text);
    }
    const fields = [...box.content.querySelectorAll("#correct textarea")].map((one) => one.value);
    if (fields.length) chip.querySelector(".clip-in")?.replaceChildren(fields.join(" · "));
    const corrected = Boolean($("[name=undo]", box.content)), mark = $(".i-edit", tr);
    if (corrected && !mark) { const one = document.createElement("span"); one.className = "i i-edit"; $(".marks", tr).append(one); }
    if (!corrected) mark?.remove();
    return chip.textContent;
  };
  const refused = (text) => {
    const note = $("#refused") ?? document.createElement("p");
    note.id = "refused";
    note.className = "note warn";
    note.setAttribute("role", "alert");
    note.textContent = text || document.body.dataset.unreachable;
    $("#correct")?.prepend(note);
  };
  const send = async (tr, key, form) => {
    seen.delete(key);
    let answer;
    try { answer = await html(post(place + key, form)); } catch { answer = { ok: false, text: "" }; }
    if (!answer.ok) { $("#correct")?.reset(); refused(answer.text.replace(/<[^>]*>/g, "").trim()); return; }
    seen.set(key, Promise.resolve(answer.text));
    if (tr) said(`${key}: ${shown(tr, answer.text)}`);
    if (drawer().dataset.number === key) put(answer.text, drawer().classList.contains("open"));
  };
  const label = async (key, next) => {
    const choice = $("#correct .keys")?.querySelectorAll("input")[key - 1], tr = current;
    if (!choice || (tr && number(tr) !== drawer().dataset.number)) return;
    choice.checked = choice.type === "radio" ? true : !choice.checked;
    const form = new FormData($("#correct"));
    done.push([tr, drawer().dataset.number, form.get("csrf")]);
    const sending = send(tr, drawer().dataset.number, form);
    if (next) await go(tr?.nextElementSibling);
    await sending;
  };
  const undo = async () => {
    const [tr, key, csrf] = done.pop() ?? [];
    if (!key) return;
    const form = new FormData();
    form.set("csrf", csrf);
    form.set("undo", "1");
    await go(tr);
    await send(tr, key, form);
  };
  rows.addEventListener("click", (event) => {
    if (event.target.matches("input")) return;
    if (event.target.closest("a")) event.preventDefault();
    open(event.target.closest("tr"), true);
  });
  $("#pick-all")?.addEventListener("change", (event) => { for (const one of rows.querySelectorAll("[name=picked]")) one.checked = event.target.checked; });
  document.addEventListener("change", (event) => {
    if (event.target.name !== "label" || event.target.type !== "radio" || !event.target.closest("#correct")) return;
    done.push([current, drawer().dataset.number, $("#correct [name=csrf]").value]);
    send(current, drawer().dataset.number, new FormData($("#correct")));
  });
  document.addEventListener("submit", (event) => {
    if (event.target.id !== "correct") return;
    event.preventDefault();
    const form = new FormData(event.target, event.submitter);
    send(current, drawer().dataset.number, form);
  });
  document.addEventListener("click", (event) => {
    const step = event.target.closest("[data-go]");
    if (step && current) { event.preventDefault(); open(step.dataset.go === "1" ? current.nextElementSibling : current.previousElementSibling, true); }
    if (event.target.closest(".shut")) drawer().classList.remove("open");
  });
  document.addEventListener("keydown", (event) => {
    const at = event.target;
    if (event.ctrlKey || event.metaKey || event.altKey || at.matches("textarea, select, input:not([type=radio], [type=checkbox])")) return;
    if (!at.closest("#rows, #row")) return;
    const key = event.key;
    if (key === "j") go(current?.nextElementSibling ?? (current ? null : rows.firstElementChild));
    else if (key === "k") go(current?.previousElementSibling);
    else if (key >= "1" && key <= "9") label(Number(key), Boolean(at.closest("#rows")));
    else if (key === "u") undo();
    else if (key === "x") $("input", current ?? rows)?.click();
    else if (key === "/") $("#q").focus();
    else if (key === "Escape") { drawer().classList.remove("open"); if (current) $("a", current).focus(); }
    else return;
    event.preventDefault();
  });
  fetched(current?.nextElementSibling);
}
