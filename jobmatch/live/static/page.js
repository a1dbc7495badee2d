"use strict";
const by = id => document.getElementById(id);
const state = { job: null, chars: [], selected: {} };  // selected: the words last selected in the ad, which lose the selection when a field is entered

function make(tag, text, properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  if (text !== null) element.textContent = text;
  return element;
}

function say(text, wrong = false) {
  by("said").textContent = text;
  by("said").classList.toggle("wrong", wrong);
}

async function ask(path, body) {
  const headers = { "X-API-Key": by("key").value };
  if (body) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  const said = await answer.json().catch(() => ({}));
  if (answer.status === 401) by("keybox").hidden = false;
  if (!answer.ok) throw new Error(typeof said.detail === "string" ? said.detail : (said.detail || []).map(d => d.what).join("; ") || answer.statusText);
  return said;
}

function highlight(matches) {
  const edges = [...new Set([0, state.chars.length, ...matches.flatMap(m => m.evidence.flatMap(e => [e.start, e.end]))])].sort((a, b) => a - b);
  by("ad").replaceChildren();
  for (let i = 0; i + 1 < edges.length; i++) {
    const [start, end] = [edges[i], edges[i + 1]];
    const inside = matches.flatMap((m, n) => m.evidence.some(e => e.start <= start && end <= e.end) ? [n] : []);
    const piece = make(inside.length ? "mark" : "span", state.chars.slice(start, end).join(""));
    piece.dataset.start = start;
    piece.dataset.matches = inside.join(" ");
    piece.onmouseenter = () => light(inside);
    piece.onmouseleave = () => light([]);
    by("ad").append(piece);
  }
}

function light(numbers) {
  document.querySelectorAll("#found li").forEach((li, n) => li.classList.toggle("lit", numbers.includes(n)));
  document.querySelectorAll("mark").forEach(m => m.classList.toggle("lit", m.dataset.matches.split(" ").some(n => numbers.includes(Number(n)))));
}

function selection() {
  const range = getSelection().rangeCount ? getSelection().getRangeAt(0) : null;
  if (!range || range.collapsed || !by("ad").contains(range.commonAncestorContainer)) return {};
  const place = (node, units) => {
    if (node.nodeType !== Node.TEXT_NODE) return null;
    return Number(node.parentNode.dataset.start) + Array.from(node.data.slice(0, units)).length;
  };
  const [start, end] = [place(range.startContainer, range.startOffset), place(range.endContainer, range.endOffset)];
  return start === null || end === null ? {} : { start, end };
}

function select(span) {
  state.selected = span;
  by("hint").textContent = span.end ? `Evidence: “${state.chars.slice(span.start, span.end).join("")}”` : "Select words in the ad first to give the evidence.";
}

async function judge(attribute, verdict, span, pressed) {
  try {
    await ask("/feedback", { job_id: state.job, attribute_id: attribute.attribute_id, verdict, who: by("who").value || "reviewer", ...span });
    for (const button of pressed.parentNode.querySelectorAll("button")) button.setAttribute("aria-pressed", button === pressed);
    say(`Saved: ${attribute.name} ${verdict}`);
    return true;
  } catch (error) { say(`Not saved: ${error.message}`, true); }
}

function row(match, n) {
  const li = make("li", null), name = make("div", null, { className: "name" }), verdicts = make("div", null, { className: "verdicts" });
  name.append(make("span", match.name), make("span", match.added ? "added" : match.score === undefined ? "" : match.score.toFixed(2)));
  const span = match.evidence.length ? { start: match.evidence[0].start, end: match.evidence[0].end } : {};
  for (const [label, verdict] of match.added ? [] : [["Accept", "accepted"], ["Reject", "rejected"]]) {
    const button = make("button", label, { type: "button" });
    button.onclick = () => judge(match, verdict, span, button);
    verdicts.append(button);
  }
  verdicts.append(make("span", match.evidence.map(e => `“${e.text.length > 90 ? e.text.slice(0, 90) + " …" : e.text}”`).join(" "), { className: "scores" }));
  li.append(name, verdicts);
  li.onmouseenter = () => light([n]);
  li.onmouseleave = () => light([]);
  li.onclick = () => document.querySelector(`mark[data-matches~="${n}"]`)?.scrollIntoView({ block: "nearest", behavior: "smooth" });
  return li;
}

function editing(yes) {
  for (const id of ["text", "match"]) by(id).hidden = !yes;
  for (const id of ["ad", "edit", "adding"]) by(id).hidden = yes;
  select({});
  if (yes) { by("found").replaceChildren(); by("offers").replaceChildren(); say(""); by("text").focus(); }
}

function show(found, text, words) {
  Object.assign(state, { job: found.job_id, chars: Array.from(text) });
  by("found").replaceChildren(...found.matches.map(row));
  highlight(found.matches);
  editing(false);
  say(words);
}

async function review() {
  try {
    const offer = await ask("/review?who=" + encodeURIComponent(by("who").value || "reviewer"));
    show(offer, offer.text, "Which of these fit? Add what is missing.");
  } catch (error) { say(error.message, true); }
}

async function match() {
  const text = by("text").value;
  if (!text.trim()) return say("Paste an ad first.", true);
  by("match").disabled = true;
  say("Matching …");
  try {
    const picked = by("pick").value && by("text").dataset.picked === text ? by("pick").value : null;
    const found = await ask("/match", { text, job_id: picked });
    show(found, text, found.matches.length ? `${found.matches.length} attribute${found.matches.length > 1 ? "s" : ""} found` : "No attribute found");
  } catch (error) { say(`Not matched: ${error.message}`, true); }
  by("match").disabled = false;
}

let typed = 0;
async function offer() {
  const mine = ++typed;
  await new Promise(done => setTimeout(done, 200));
  if (mine !== typed) return;
  const found = await ask("/attributes?q=" + encodeURIComponent(by("query").value)).catch(error => { say(error.message, true); return []; });
  by("offers").replaceChildren(...found.map(attribute => {
    const li = make("li", null), button = make("button", attribute.name, { type: "button" });
    button.onclick = async () => {
      const span = state.selected;
      if (!await judge(attribute, "missing", span, button)) return;
      const text = span.end ? state.chars.slice(span.start, span.end).join("") : "";
      by("found").append(row({ ...attribute, added: true, evidence: text ? [{ ...span, text }] : [] }, by("found").children.length));
      by("offers").replaceChildren();
      by("query").value = "";
      select({});
    };
    li.append(button);
    return li;
  }));
}

async function pick() {
  if (!by("pick").value) return;
  try {
    const ad = await ask("/ads/" + by("pick").selectedIndex);
    editing(true);
    by("text").value = ad.text;
    by("text").dataset.picked = by("text").value;
    match();
  } catch (error) { say(error.message, true); }
}

async function list() {
  const ads = await ask("/ads").catch(error => { say(error.message, true); return []; });
  by("pick").hidden = !ads.length;
  by("pick").replaceChildren(by("pick").options[0], ...ads.map(ad => make("option", ad.title, { value: ad.job_id })));
}

by("who").value = localStorage.getItem("who") || "";
by("who").onchange = () => localStorage.setItem("who", by("who").value);
by("key").onchange = () => { say(""); list(); };
by("match").onclick = match;
by("next").onclick = review;
by("edit").onclick = () => editing(true);
by("pick").onchange = pick;
by("query").oninput = offer;
document.addEventListener("selectionchange", () => { const span = selection(); if (span.end) select(span); });
by("adding").onsubmit = event => event.preventDefault();
ask("/healthz").then(health => { by("next").hidden = !health.reviews; by("model").textContent = `model ${health.model_version}, ${health.taxonomy_version}`; });
list();
