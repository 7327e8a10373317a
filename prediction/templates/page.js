"use strict";
(() => {
  // One conversation: data.utterances are [id, start s, end s, speaker, words, shares or null, rests on, votes or null].
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const NS = "http://www.w3.org/2000/svg";
  const LANE = 46, AXIS = 22, FOOT = 14, GAP = 5;
  const utterances = data.utterances.map(([id, start, end, speaker, words, shares, rests, votes]) =>
    ({ id, start, end, speaker, words, shares, rests, votes, top: shares ? shares.indexOf(Math.max(...shares)) : null }));
  const duration = Math.max(data.duration, 1);

  const svg = (name, attributes, parent) => {
    const element = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (parent) parent.append(element);
    return element;
  };
  const html = (name, className, text) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
  const clock = (seconds) => {
    const whole = Math.floor(seconds), two = (n) => String(n).padStart(2, "0");
    const start = whole >= 3600 ? `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}` : String(Math.floor(whole / 60));
    return `${start}:${two(whole % 60)}`;
  };
  const told = (shares) => shares.map((share, i) => [share, data.emotions[i].name]).filter(([share]) => share >= 0.05)
    .sort((a, b) => b[0] - a[0]).map(([share, name]) => `${name} ${percent(share)}`).join(", ");
  const differ = (shares) => 1 - shares.reduce((sum, share) => sum + share * share, 0);

  // ---- the list
  const list = byId("list");
  const bar = (shares, label) => {
    const picture = svg("svg", { class: "bar", viewBox: "0 0 160 16", preserveAspectRatio: "none", role: "img", "aria-label": `${label}: ${told(shares)}` });
    let x = 0;
    shares.forEach((share, i) => {
      if (share > 0.004) svg("rect", { class: `p${data.emotions[i].look}`, x: x.toFixed(1), width: (160 * share).toFixed(1), height: 16 }, picture);
      x += 160 * share;
    });
    return picture;
  };
  const row = (one, i) => {
    const item = html("li");
    item.dataset.i = i;
    const time = html("button", "time", clock(one.start));
    time.type = "button";
    time.tabIndex = i ? -1 : 0;
    time.setAttribute("aria-label", `${data.sound ? "Play from" : "At"} ${clock(one.start)}`);
    const name = html("span", "name"), words = html("div", "words", one.words || "(no words)");
    name.append(html("bdi", "", data.speakers[one.speaker]));
    words.dir = "auto";
    const cell = html("div", "words-cell");
    cell.append(words);
    if (one.words.length > 700) {
      words.classList.add("long");
      const more = html("button", "more", `All ${one.words.length.toLocaleString("en")} characters`);
      more.type = "button";
      more.setAttribute("aria-expanded", "false");
      more.addEventListener("click", () => {
        const open = !words.classList.toggle("long");
        more.setAttribute("aria-expanded", String(open));
        more.textContent = open ? "Less" : `All ${one.words.length.toLocaleString("en")} characters`;
      });
      cell.append(more);
    }
    const bars = html("div", "bars"), said = html("div", "said");
    if (one.shares) {
      bars.append(bar(one.shares, "predicted"));
      said.append(html("span", "top", `${data.emotions[one.top].name} ${percent(one.shares[one.top])}`));
      said.append(html("small", "", `two raters differ: ${percent(differ(one.shares))}`));
    } else said.append(html("span", "top", "no answer"));
    if (one.votes) {
      bars.append(bar(one.votes, "raters"));
      said.append(html("small", "votes", `raters: ${told(one.votes)}`));
    }
    if (one.rests !== "words+sound") said.append(html("span", "rests", one.rests === "nothing" ? "neither words nor sound" : `${one.rests} alone`));
    item.append(time, name, cell, bars, said);
    return item;
  };
  const rows = utterances.map(row);
  list.append(...rows);

  let chosen = utterances.length ? 0 : -1, playing = -1;
  const choose = (i, focus) => {
    if (i < 0) return;
    rows[chosen].querySelector(".time").tabIndex = -1;
    chosen = i;
    const button = rows[i].querySelector(".time");
    button.tabIndex = 0;
    if (focus) button.focus();
  };
  const reveal = (i) => rows[i].scrollIntoView({ block: "nearest" });

  // ---- filters
  const shown = utterances.map(() => true);
  const filter = () => {
    const speaker = byId("speaker").value, emotion = byId("emotion").value;
    const search = byId("search").value.trim().toLocaleLowerCase();
    let count = 0;
    utterances.forEach((one, i) => {
      shown[i] = (speaker === "" || one.speaker === Number(speaker)) &&
        (emotion === "" || (emotion === "none" ? one.top === null : one.top === Number(emotion))) &&
        (!search || one.words.toLocaleLowerCase().includes(search));
      rows[i].classList.toggle("hidden", !shown[i]);
      count += shown[i];
    });
    byId("count").textContent = count === utterances.length ? `${count} utterances` : `${count} of ${utterances.length} utterances`;
    const first = shown.indexOf(true);
    if (first >= 0 && !shown[chosen]) choose(first, false);
    draw();
  };
  for (const id of ["speaker", "emotion"]) byId(id).addEventListener("change", filter);
  byId("search").addEventListener("input", filter);
  document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());

  // ---- the timeline: only what is in sight is drawn
  const scroll = byId("scroll"), timeline = byId("timeline");
  const height = AXIS + LANE * data.speakers.length + FOOT;
  const LONGEST = 1000000;  // pixels, which browsers still scroll exactly
  let scale = 0;  // pixels a second
  const ground = svg("g", {}, timeline), bars = svg("g", { id: "bars" }, timeline);
  const cursor = svg("line", { class: "cursor", y1: 0, y2: height }, timeline);
  const whole = () => Math.max(scroll.clientWidth - 2, 100) / duration;
  const stack = (one, shares, x, width, y, tall) => {
    let low = y + tall;
    shares.forEach((share, i) => {
      if (share < 0.02) return;
      low -= tall * share;
      svg("rect", { class: `p${data.emotions[i].look}`, x, width, y: low.toFixed(1), height: (tall * share).toFixed(1) }, one);
    });
  };
  const draw = () => {
    const from = scroll.scrollLeft / scale - 200 / scale, to = (scroll.scrollLeft + scroll.clientWidth + 200) / scale;
    ground.replaceChildren();
    bars.replaceChildren();
    const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200].find((s) => s * scale > 64) || 14400;
    for (let t = Math.max(0, Math.floor(from / step) * step); t <= Math.min(to, duration); t += step) {
      svg("line", { class: "tick", x1: t * scale, x2: t * scale, y1: 16, y2: height }, ground);
      svg("text", { class: "tick-label", x: t * scale + 2, y: 12 }, ground).textContent = clock(t);
    }
    utterances.forEach((one, i) => {
      if (one.end < from || one.start > to) return;
      const x = (one.start * scale).toFixed(1), width = Math.max(1.5, (one.end - one.start) * scale - 0.5).toFixed(1);
      const y = AXIS + LANE * one.speaker + GAP, tall = LANE - 2 * GAP;
      const group = svg("g", { "data-i": i, class: shown[i] ? "utterance" : "utterance dim" }, bars);
      const part = data.votes ? tall / 2 - 1 : tall;
      if (one.shares && width < 3) svg("rect", { class: `p${data.emotions[one.top].look}`, x, width, y, height: part }, group);
      else if (one.shares) stack(group, one.shares, x, width, y, part);
      else svg("rect", { class: "unknown", x, width, y, height: part }, group);
      if (one.votes) stack(group, one.votes, x, width, y + tall / 2 + 1, tall / 2 - 1);
      if (width > 4 || i === playing) svg("rect", { class: i === playing ? "edge on" : "edge", x, width, y, height: tall }, group);
      if (one.top !== null && width > 20) {
        svg("text", { class: "code", x: Number(x) + 3, y: y + Math.min(part / 2 + 5, part - 3) }, group).textContent = data.emotions[one.top].code;
      }
    });
    place();
  };
  const place = () => {
    const x = (audio ? audio.currentTime : chosen >= 0 ? utterances[chosen].start : 0) * scale;
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
  };
  const zoom = (wanted, around) => {
    const middle = around ?? (scroll.scrollLeft + scroll.clientWidth / 2) / (scale || 1);
    scale = Math.min(Math.max(wanted, whole()), Math.max(whole(), Math.min(240, LONGEST / duration)));
    timeline.setAttribute("width", Math.round(duration * scale));
    timeline.setAttribute("height", height);
    scroll.scrollLeft = middle * scale - scroll.clientWidth / 2;
    draw();
  };
  let pending = false;
  const soon = () => {
    if (pending) return;
    pending = true;
    requestAnimationFrame(() => { pending = false; draw(); });
  };
  scroll.addEventListener("scroll", soon, { passive: true });
  scroll.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoom(scale * (event.deltaY < 0 ? 1.25 : 0.8), (event.clientX - timeline.getBoundingClientRect().left) / scale);
  }, { passive: false });
  window.addEventListener("resize", () => zoom(scale));
  window.addEventListener("beforeprint", () => zoom(0));
  byId("wider").addEventListener("click", () => zoom(scale * 2));
  byId("closer").addEventListener("click", () => zoom(scale / 2));
  byId("whole").addEventListener("click", () => zoom(0));
  const sight = () => {  // keeps the cursor in sight
    const x = Number(cursor.getAttribute("x1"));
    if (x < scroll.scrollLeft || x > scroll.scrollLeft + scroll.clientWidth) scroll.scrollLeft = x - scroll.clientWidth / 4;
  };

  // ---- the sound
  const audio = byId("audio");
  const sound = byId("sound");
  if (sound) {
    const bytes = Uint8Array.from(atob(sound.textContent), (one) => one.charCodeAt(0));
    audio.src = URL.createObjectURL(new Blob([bytes], { type: sound.dataset.type }));
    sound.remove();
  }
  const at = (seconds) => {
    let found = -1;  // of several at once, the one that began last
    utterances.forEach((one, i) => { if (one.start <= seconds + 0.001 && seconds < one.end) found = i; });
    return found;
  };
  const light = (i) => {
    if (i === playing) return;
    if (playing >= 0) { rows[playing].classList.remove("now"); rows[playing].removeAttribute("aria-current"); }
    playing = i;
    if (i >= 0) {
      rows[i].classList.add("now");
      rows[i].setAttribute("aria-current", "true");
      if (audio) {
        if (!audio.paused && byId("follow").checked && shown[i]) reveal(i);
        const one = utterances[i];
        byId("now").textContent = `${data.speakers[one.speaker]}: ${one.words.slice(0, 200) || "(no words)"}` +
          (one.shares ? ` (${data.emotions[one.top].name} ${percent(one.shares[one.top])})` : "");
      }
    }
    soon();
  };
  const playFrom = (i) => {
    choose(i, false);
    if (audio) {
      audio.currentTime = utterances[i].start;
      light(i);
      audio.play().catch(() => {});
    } else { light(i); reveal(i); }
    place();
  };
  const toggle = () => { if (audio.paused) audio.play().catch(() => {}); else audio.pause(); };
  if (audio) {
    const step = () => {
      light(at(audio.currentTime));
      place();
      if (!audio.paused) { sight(); requestAnimationFrame(step); }
    };
    audio.addEventListener("play", () => { byId("play").textContent = "Stop"; byId("play").setAttribute("aria-pressed", "true"); step(); });
    audio.addEventListener("pause", () => { byId("play").textContent = "Play"; byId("play").setAttribute("aria-pressed", "false"); });
    for (const event of ["seeked", "timeupdate"]) audio.addEventListener(event, () => { if (audio.paused) step(); });
    audio.addEventListener("error", () => {
      byId("now").textContent = "The sound cannot be played: the recording is not where it was, or is of a kind that this browser does not play.";
    });
    byId("play").addEventListener("click", toggle);
  }
  list.addEventListener("click", (event) => {
    const item = event.target.closest("li");
    if (!item || event.target.closest(".more") || String(window.getSelection())) return;
    playFrom(Number(item.dataset.i));
  });
  timeline.addEventListener("click", (event) => {
    const group = event.target.closest("[data-i]");
    if (group) { playFrom(Number(group.dataset.i)); reveal(chosen); return; }
    if (!audio) return;
    audio.currentTime = (event.clientX - timeline.getBoundingClientRect().left) / scale;
    audio.play().catch(() => {});
  });

  // ---- keys
  const next = (by) => {
    let i = chosen + by;
    while (i >= 0 && i < shown.length && !shown[i]) i += by;
    if (i >= 0 && i < shown.length) { choose(i, true); reveal(i); if (!audio) { light(i); place(); sight(); } }
  };
  const keys = {
    " ": () => audio && toggle(),
    ArrowDown: () => next(1),
    ArrowUp: () => next(-1),
    ArrowLeft: () => { if (audio) audio.currentTime = Math.max(0, audio.currentTime - 5); else next(-1); },
    ArrowRight: () => { if (audio) audio.currentTime = Math.min(audio.duration || duration, audio.currentTime + 5); else next(1); },
    "+": () => zoom(scale * 2),
    "-": () => zoom(scale / 2),
  };
  const ours = (target) => !target.closest("input, select, textarea, audio, summary") && (!target.closest("button") || target.closest("#list .time"));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.target instanceof Element)) return;
    if (event.key === "Enter" && event.target === scroll && chosen >= 0) { playFrom(chosen); return; }
    const zooming = event.key === "+" || event.key === "-";
    if (!keys[event.key] || !(ours(event.target) || (zooming && event.target.closest("button")))) return;
    event.preventDefault();
    keys[event.key]();
  });
  document.addEventListener("keyup", (event) => {  // else the space would press the button as well
    if (event.key === " " && event.target instanceof Element && event.target.closest("#list .time")) event.preventDefault();
  });

  zoom(0);
  filter();
})();
