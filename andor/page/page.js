// The page of a run: the word picture, masking by click, tables. Plain JavaScript, no library, no request.
//
// `data` (written by andor/page/report.py):
//   models   [{name, label}]
//   hiding   characters that are written by their numbers
//   score    "product", or "sum": then v is no log-odds of one probability
//   prompts  [{id, text, players: [[start, stop]] in UTF-16, words, effects, models: [per model
//              {target, p, empty, low, step, v, warnings}]}]
//   effects  [[is it an OR (0 or 1), subset, [effect per model], [the same at least strength], [AND only], perhaps
//              [[at least, at most] of its size at nearly least strength, or null]]]; 0: none
// v holds all 2^n log-odds of the model as low + step * number, a number in characters of DIGITS. Bit i of a
// subset: player i is there.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const several = data.models.length > 1;

  // --- what is looked at -------------------------------------------------------------------------------------------
  // there: subset of words that are not masked. shown: effects shown of each model; asked: whether somebody chose that
  // number, which is otherwise all: fewer give v worse than the explanation does. models: places of the model above and of the one below (-1: none).
  // open: key of the effect whose detail is open. lit: key of the effect that is pointed at.
  const state = { place: 0, there: 0, shown: 8, asked: false, models: several ? [0, 1] : [0, -1], open: null, lit: null };
  const prompt = () => data.prompts[state.place];
  const everyone = () => 2 ** prompt().players.length - 1;
  const chosen = () => state.models.filter((m) => m >= 0); // in the picture
  const told = () => (state.models.includes(-1) ? chosen() : data.models.map((_, m) => m)); // in readout and tables

  // --- making elements: text goes in as text, never as markup ------------------------------------------------------
  const fill = (element, attributes, children) => {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
    }
    element.append(...children.flat(Infinity).filter((each) => each !== null && each !== undefined));
    return element;
  };
  const make = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  const draw = (tag, attributes, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  // A text in which nothing hides, as andor/core/text.py says which characters do.
  const HIDDEN = new RegExp("[" + data.hiding.replace(/[\]\\^-]/g, "\\$&") + "]", "gu");
  const named = (character) => "U+" + character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  const visible = (text) => text.replace(HIDDEN, named);
  const apart = (text, attributes) => make("bdi", attributes, visible(text)); // keeps its direction to itself
  const modelName = (m) => apart(data.models[m].label, { class: `of m${m % 6}` });

  // --- numbers -----------------------------------------------------------------------------------------------------
  const signed = (x, digits = 2) => {
    const size = Math.abs(x).toFixed(digits);
    return Number(size) === 0 ? size : (x < 0 ? "−" : "+") + size;
  };
  // An effect is never printed as none: the small ones keep a digit.
  const effectText = (x) => (x < 0 ? "−" : "+") + (Math.abs(x) < 0.005 ? Number(Math.abs(x).toPrecision(1)) : Math.abs(x).toFixed(2));
  // R² and p by the rules of andor/core/text.py: never rounded up to 1, 0% or 100% only where it is.
  const fitText = (x) => (x >= 0.9995 && x < 1 - 1e-9 ? 0.999 : x).toFixed(3).replace("-", "−");
  const percent = (p) => {
    if (p === 0 || p === 1) return 100 * p + "%";
    if (p < 1e-5) return "<0.001%";
    if (p >= 0.9995) return ">99.9%";
    return (p >= 0.99 ? (100 * p).toFixed(1) : (100 * p).toPrecision(2)) + "%";
  };
  const chance = (v) => 1 / (1 + Math.exp(-v));
  const odds = (x) => {
    const times = Math.exp(Math.abs(x));
    const text = times < 1e5 ? String(Number(times.toPrecision(2))) : times.toExponential(0).replace("e+", "e");
    return (x < 0 ? "÷ " : "× ") + text;
  };
  const signClass = (x) => (x < 0 ? "less" : "more");
  const number = (x) => (x ? make("span", { class: signClass(x) }, effectText(x)) : "–");

  const beside = (x) => (Math.abs(x) < 0.005 ? (x ? "0.00" : "–") : number(x)); // of another method, dust and all

  // --- effects -----------------------------------------------------------------------------------------------------
  const bits = (subset) => {
    let count = 0;
    for (let rest = subset; rest; rest = Math.floor(rest / 2)) count += rest % 2;
    return count;
  };
  const players = (subset) => prompt().players.map((_, i) => i).filter((i) => (subset >> i) & 1);
  const keyOf = (effect) => `${effect[0]}-${effect[1]}`;
  const applies = (effect, there) => (effect[0] ? (effect[1] & there) !== 0 : (effect[1] & there) === effect[1]);
  // The effects of a model, strongest first; the first of them are shown.
  const ranked = (m) =>
    prompt().effects.filter((each) => each[2][m]).sort((a, b) => Math.abs(b[2][m]) - Math.abs(a[2][m]));
  const shownOf = (m) => ranked(m).slice(0, state.shown);
  const sumAt = (m, effects, there) =>
    effects.reduce((sum, each) => sum + (applies(each, there) ? each[2][m] : 0), prompt().models[m].empty);
  // How many of the models that are told have an effect, with one sign.
  const havers = (effect) => {
    const up = told().filter((m) => effect[2][m] > 0).length, down = told().filter((m) => effect[2][m] < 0).length;
    return Math.max(up, down);
  };
  // Whether the explanation of least strength, which gives v about as well, has less than half of an effect.
  const unsure = (effect, m) => effect[3][m] * Math.sign(effect[2][m]) < Math.abs(effect[2][m]) / 2;
  const shared = (effect) => {
    const [a, b] = state.models;
    return b >= 0 && a >= 0 && effect[2][a] * effect[2][b] > 0;
  };

  const listed = (words, last) =>
    words.map((word, i) => [i === 0 ? "" : i === words.length - 1 ? ` ${last} ` : ", ", apart(/[,;:.]$/.test(word) ? `“${word}”` : word)]);
  const wordsOf = (effect) => {
    const words = players(effect[1]).map((i) => prompt().words[i]);
    return listed(words, effect[0] ? "or" : "and");
  };
  const kindOf = (effect) => (bits(effect[1]) === 1 ? "word" : effect[0] ? "OR" : "AND");
  const condition = (effect) => {
    const count = bits(effect[1]);
    if (count === 1) return ["When ", wordsOf(effect), " is there, "];
    if (effect[0]) return [count === 2 ? "When " : "When any of ", wordsOf(effect), " is there, "];
    return ["When ", wordsOf(effect), count === 2 ? " are both there, " : " are all there, "];
  };
  const quoted = (m) => {
    const target = prompt().models[m].target;
    return ["“", apart(target.trim() || JSON.stringify(target)), "”"];
  };

  // --- values ------------------------------------------------------------------------------------------------------
  const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const decoded = new Map();
  const values = (m) => {
    const entry = prompt().models[m];
    if (!entry.v) return null;
    if (!decoded.has(entry)) {
      const v = new Float64Array(everyone() + 1), size = entry.v.length / v.length;
      for (let i = 0; i < v.length; i++) {
        let number = 0;
        for (const digit of entry.v.slice(size * i, size * (i + 1))) number = 64 * number + DIGITS.indexOf(digit);
        v[i] = entry.low + entry.step * number;
      }
      decoded.set(entry, v);
    }
    return decoded.get(entry);
  };
  // R² of the model's v on all masks from its 0, 1, 2, … strongest effects; null where its values are not here.
  const fits = new Map();
  const fitsOf = (m) => {
    const v = values(m), entry = prompt().models[m];
    if (!v) return null;
    if (!fits.has(entry)) {
      const mean = v.reduce((sum, x) => sum + x, 0) / v.length;
      const total = v.reduce((sum, x) => sum + (x - mean) ** 2, 0);
      const left = v.map((x) => x - entry.empty);
      const fit = () => (total > 0 ? 1 - left.reduce((sum, x) => sum + x * x, 0) / total : null);
      const found = [fit()];
      for (const effect of ranked(m)) {
        for (let there = 0; there < left.length; there++) if (applies(effect, there)) left[there] -= effect[2][m];
        found.push(fit());
      }
      fits.set(entry, found);
    }
    return fits.get(entry);
  };
  const fitShown = (m) => fitsOf(m)?.[Math.min(state.shown, ranked(m).length)] ?? null;
  const enough = () => Math.max(1, ...told().map((m) => ranked(m).length));

  // --- the word picture --------------------------------------------------------------------------------------------
  const LANE = 19, BAR = 7, LABEL = 15, GAP = 7, STUB = 16;
  let spans = []; // of the players: the outer one makes room in its line, the inner one holds the text

  const writeText = () => {
    const { text, players: places } = prompt();
    const pieces = (part) => {
      const found = [];
      let from = 0;
      for (const match of part.matchAll(HIDDEN)) {
        found.push(part.slice(from, match.index), make("span", { class: "control" }, named(match[0])));
        from = match.index + match[0].length;
      }
      return [...found, part.slice(from)];
    };
    const nodes = [];
    let from = 0;
    spans = places.map(([start, stop], i) => {
      const inner = make("span", {}, pieces(text.slice(start, stop)));
      const outer = make("span", { class: "player", role: "button", tabindex: 0, "data-player": i }, inner);
      nodes.push(...pieces(text.slice(from, start)), outer);
      from = stop;
      return { outer, inner };
    });
    nodes.push(...pieces(text.slice(from)));
    $("text").replaceChildren(...nodes);
  };

  const width = (() => {
    const context = document.createElement("canvas").getContext("2d");
    return (text, font = "600 12px system-ui, 'DejaVu Sans', sans-serif") => {
      context.font = font;
      return context.measureText(text).width;
    };
  })();

  // Where players are: the box of each, and its line.
  const boxes = () => {
    const origin = $("picture").getBoundingClientRect();
    return spans.map(({ inner }) => {
      const box = inner.getClientRects()[0] || inner.getBoundingClientRect();
      return { left: box.left - origin.left, right: box.right - origin.left, top: box.top - origin.top,
               bottom: box.bottom - origin.top, middle: (box.left + box.right) / 2 - origin.left };
    });
  };

  // The effects on each side of the words: [model, effects]. One model: AND above, OR below. Two: one each.
  const sides = () => {
    const [a, b] = state.models;
    if (a >= 0 && b >= 0) return [[a, shownOf(a)], [b, shownOf(b)]];
    const m = chosen()[0], all = shownOf(m);
    return [[m, all.filter((each) => !each[0])], [m, all.filter((each) => each[0])]];
  };

  // Places on a line of text what one side shows there, and says how high that is.
  // An item: {effect, m, kind: "bar" | "comb", left, right (with its value), dots, text, lane}.
  const pack = (effects, m, line, place, lines) => {
    const bars = [], combs = [];
    for (const effect of effects) {
      const all = players(effect[1]), here = all.filter((i) => line.includes(i));
      if (!here.length) continue;
      const value = effectText(effect[2][m]);
      if (all.length === 1) {
        const box = place[here[0]], half = Math.max(width(value) / 2, 0) + 2;
        bars.push({ effect, m, kind: "bar", box, text: value, left: box.middle - half, right: box.middle + half });
        continue;
      }
      const dots = here.map((i) => place[i].middle).sort((x, y) => x - y);
      const at = lines.indexOf(line);
      const before = all.some((i) => lines.slice(0, at).some((each) => each.includes(i)));
      const after = all.some((i) => lines.slice(at + 1).some((each) => each.includes(i)));
      const turned = getComputedStyle($("text")).direction === "rtl";
      const [toLeft, toRight] = turned ? [after, before] : [before, after];
      const text = (toLeft ? "… " : "") + value + (toRight ? " …" : "");
      const start = dots[0] - (toLeft ? STUB : 0), end = dots[dots.length - 1] + (toRight ? STUB : 0);
      combs.push({ effect, m, kind: "comb", dots, start, end, text, left: start - 8, right: end + 10 + width(text) });
    }
    // A value that would touch its neighbour goes one row further out.
    bars.sort((x, y) => x.left - y.left);
    const rows = [];
    for (const bar of bars) {
      let row = 0;
      while (rows[row] !== undefined && rows[row] > bar.left) row++;
      rows[row] = bar.right;
      bar.lane = row;
    }
    // Short combs lie near the words, and no two touch.
    combs.sort((x, y) => x.end - x.start - (y.end - y.start) || y.right - x.right);
    const lanes = [];
    for (const comb of combs) {
      let lane = 0;
      while (lanes[lane] && lanes[lane].some(([left, right]) => comb.left < right + 4 && left < comb.right + 4)) lane++;
      (lanes[lane] = lanes[lane] || []).push([comb.left, comb.right]);
      comb.lane = lane;
    }
    const base = bars.length ? GAP + BAR + LABEL * rows.length : GAP;
    return { items: [...bars, ...combs], base, height: base + LANE * lanes.length + 3 };
  };

  const layout = () => {
    const text = $("text"), style = getComputedStyle(text);
    for (const { outer, inner } of spans) {
      for (const each of [outer, inner]) each.style.verticalAlign = each.style.lineHeight = "";
    }
    let place = boxes();
    // Lines: players whose boxes are at the same height.
    const lines = [];
    place.forEach((box, i) => {
      const line = lines.find((each) => Math.abs(place[each[0]].top - box.top) < (box.bottom - box.top) / 2);
      if (line) line.push(i);
      else lines.push([i]);
    });
    lines.sort((x, y) => place[x[0]].top - place[y[0]].top);
    $("wrapped").hidden = lines.length < 2;
    const [[above, aboveEffects], [below, belowEffects]] = sides();
    const packed = lines.map((line) => [
      pack(aboveEffects, above, line, place, lines), pack(belowEffects, below, line, place, lines),
    ]);
    // Room for them: the outer span is as high as both sides together and shifted, the inner one shifted back.
    const size = parseFloat(style.fontSize), ascent = 0.93 * size, descent = 0.24 * size;
    lines.forEach((line, at) => {
      const up = ascent + packed[at][0].height + 4, down = descent + packed[at][1].height + 4;
      const shift = (up - down - (ascent - descent)) / 2;
      for (const i of line) {
        spans[i].outer.style.lineHeight = `${up + down}px`;
        spans[i].outer.style.verticalAlign = `${shift}px`;
        spans[i].inner.style.verticalAlign = `${-shift}px`;
        spans[i].inner.style.lineHeight = "1.3";
      }
    });
    place = boxes();
    drawCombs(lines, packed, place, [above, below]);
  };

  const drawCombs = (lines, packed, place, models) => {
    const strongest = Math.max(...chosen().flatMap((m) => ranked(m).slice(0, 1).map((each) => Math.abs(each[2][m]))), 1e-9);
    const svg = $("combs"), all = [], behind = [];
    lines.forEach((line, at) => {
      const top = Math.min(...line.map((i) => place[i].top)), bottom = Math.max(...line.map((i) => place[i].bottom));
      packed[at].forEach((side, down) => {
        const out = down ? 1 : -1, edge = down ? bottom : top;
        if (side.items.length && several && state.models[1] >= 0) {
          all.push(draw("line", { class: `side m${models[down] % 6}`, x1: 2, x2: 2, y1: edge + out * 4, y2: edge + out * (side.height - 3) }));
        }
        for (const item of side.items) {
          const size = Math.abs(item.effect[2][item.m]) / strongest;
          const group = draw("g", { class: `effect ${item.effect[2][item.m] < 0 ? "down" : "up"}`, "data-key": keyOf(item.effect), "data-model": item.m });
          const both = shared(item.effect) && shownOf(state.models[0]).includes(item.effect) && shownOf(state.models[1]).includes(item.effect);
          if (item.kind === "bar") {
            const y = edge + out * GAP, far = y + out * BAR, text = far + out * (LABEL * item.lane + 4) + (down ? 8 : 0);
            const box = place[item.effect[1] ? players(item.effect[1])[0] : 0];
            if (both) behind.push(draw("rect", { class: "both", x: Math.min(box.left, item.left) - 3, width: Math.max(box.right, item.right) - Math.min(box.left, item.left) + 6, y: Math.min(y, text + (down ? 3 : -11)) - 3, height: Math.abs(text + (down ? 3 : -11) - y) + 6, rx: 4 }));
            group.append(
              draw("rect", { class: "word", x: box.left, width: box.right - box.left, y: Math.min(y, far), height: BAR, rx: 2, opacity: (0.3 + 0.7 * size).toFixed(2) }),
              draw("text", { class: "value", x: box.middle, y: text, "text-anchor": "middle" }, item.text),
            );
          } else {
            const y = edge + out * (side.base + LANE * (item.lane + 0.5)), or = item.effect[0] ? " or" : "";
            if (both) behind.push(draw("rect", { class: "both", x: item.left, width: item.right - item.left + 4, y: y - 9, height: 18, rx: 4 }));
            group.append(
              draw("line", { class: "thread" + or, x1: item.start, x2: item.end, y1: y, y2: y, "stroke-width": (1.3 + 4.7 * size).toFixed(2) }),
              ...item.dots.map((x) => draw("line", { class: "tick", x1: x, x2: x, y1: y, y2: y - out * 8 })),
              ...item.dots.map((x) => draw("circle", { class: item.effect[0] ? "ring" : "dot", cx: x, cy: y, r: 4 })),
              draw("text", { class: "value", x: item.end + 9, y: y + 4 }, item.text),
              draw("line", { class: "catch", x1: item.left, x2: item.right, y1: y, y2: y }),
            );
          }
          all.push(group);
        }
      });
    });
    const picture = $("picture").getBoundingClientRect();
    svg.setAttribute("width", picture.width);
    svg.setAttribute("height", picture.height);
    svg.replaceChildren(...behind, ...all);
    mark();
  };

  // --- what follows the mask and the pointer, without laying anything out again ------------------------------------
  const mark = () => {
    spans.forEach(({ outer }, i) => {
      const there = (state.there >> i) & 1;
      outer.setAttribute("aria-pressed", there ? "false" : "true");
      outer.title = there ? "Click to mask this word" : "Masked. Click to put this word back";
    });
    const key = state.lit || state.open;
    const lit = key ? prompt().effects.find((each) => keyOf(each) === key) : null;
    const drawn = Boolean(lit) && document.querySelector(`.effect[data-key="${key}"]`) !== null;
    $("picture").classList.toggle("lighting", drawn);
    $("picture").classList.toggle("resting", drawn && !state.lit); // its detail is open, and nothing is pointed at
    spans.forEach(({ outer }, i) => outer.classList.toggle("lit", Boolean(lit) && Boolean((lit[1] >> i) & 1)));
    for (const group of document.querySelectorAll("#combs .effect")) {
      const effect = prompt().effects.find((each) => keyOf(each) === group.dataset.key);
      group.classList.toggle("off", !applies(effect, state.there));
      group.classList.toggle("lit", group.dataset.key === key);
    }
    for (const row of document.querySelectorAll("#effects tr[data-key]")) row.classList.toggle("lit", row.dataset.key === key);
    const sentence = $("sentence");
    if (!lit) {
      sentence.replaceChildren(make("span", { class: "note" }, "Point at a line of the picture or a row of the table to read it in words. Click a word to mask it; click an effect for its detail."));
      return;
    }
    sentence.replaceChildren(...said(lit));
  };

  const said = (effect) => {
    const lines = told().map((m) => {
      const value = effect[2][m], who = several ? [modelName(m), ": "] : "";
      if (!value) return make("span", { class: "of-model" }, who, "none of its effects.");
      return make("span", { class: "of-model" }, who, condition(effect), quoted(m), value < 0 ? " loses " : " gains ",
        make("strong", { class: signClass(value) }, `${Math.abs(value).toFixed(2)} nats`),
        data.score === "sum" ? "." : `: odds ${odds(value)}.`,
        unsure(effect, m) ? [" At least strength ", beside(effect[3][m]) === "–" ? "none" : beside(effect[3][m]), "."] : "");
    });
    if (state.open === keyOf(effect)) lines.push(make("a", { href: "#detail", onclick: (event) => { event.preventDefault(); $("detail").scrollIntoView({ block: "center" }); } }, "Its detail, and how to check it ↓"));
    return lines;
  };

  const countThere = () => bits(state.there);

  const readout = () => {
    const all = everyone(), rows = [];
    for (const m of told()) {
      const v = values(m), entry = prompt().models[m], effects = shownOf(m);
      const sum = sumAt(m, effects, state.there), exact = v ? v[state.there] : null;
      const known = data.score !== "sum" || state.there === all;
      const p = data.score === "sum" ? entry.p : exact === null ? (state.there === all ? entry.p : null) : chance(exact);
      const before = state.there === all ? null : make("small", {}, ` with all words ${percent(entry.p)}`);
      let ruler = "";
      if (v) {
        const ends = [Math.min(...lowHigh(v), sum), Math.max(...lowHigh(v), sum)];
        const x = (value) => 8 + (164 * (value - ends[0])) / (ends[1] - ends[0] || 1);
        ruler = draw("svg", { width: 180, height: 26, role: "img", "aria-label": `from ${signed(ends[0])} to ${signed(ends[1])}: the model ${signed(exact)}, the effects ${signed(sum)}` },
          draw("line", { class: "ruler", x1: 8, x2: 172, y1: 13, y2: 13 }),
          draw("path", { class: `sum m${m % 6}`, d: `M${x(sum).toFixed(1)} 15l5 9h-10z` }),
          draw("line", { class: "exact", x1: x(exact), x2: x(exact), y1: 3, y2: 15 }));
      }
      const none = make("span", { title: "The values of this prompt are not in this page" }, "not in this page");
      rows.push(make("tr", { "data-model": m },
        make("th", { scope: "row" }, modelName(m)),
        make("td", { class: "n" }, known && p !== null ? make("span", { class: "big", "data-is": "p" }, percent(p)) : "–", before),
        make("td", { class: "n" }, exact === null ? none : make("b", { "data-is": "v" }, signed(exact))),
        make("td", { class: "n" }, make("b", { "data-is": "sum" }, signed(sum)),
          data.score === "sum" ? "" : make("small", {}, ` (${percent(chance(sum))})`)),
        make("td", { class: "n", "data-is": "off" }, exact === null ? "–" : signed(sum - exact)),
        make("td", {}, ruler)));
    }
    const n = prompt().players.length, count = countThere();
    const same = new Set(told().map((m) => prompt().models[m].target)).size === 1;
    const head = make("tr", {}, make("th", { scope: "col" }, count === n ? `All ${n} words there` : `${count} of ${n} words there`),
      make("th", { scope: "col", class: "n" }, "probability", same ? [" of ", quoted(told()[0])] : " of the model’s own target"),
      make("th", { scope: "col", class: "n" }, "v of the model, exact"), make("th", { scope: "col", class: "n" }, "effects shown add up to"),
      make("th", { scope: "col", class: "n" }, "they miss by"), make("th", { scope: "col" }, "│ model  ▲ effects shown"));
    $("readout").replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, rows)),
      make("p", { class: "note" }, data.score === "sum"
        ? "v: sum of the log-odds of the target’s tokens, in nats, as the model gave it for exactly these words."
        : "v: log-odds of the target, log p / (1 − p), in nats, as the model gave it for exactly these words; p follows from it. All masks of the prompt are in this page, nothing is estimated."));
  };
  const extremes = new WeakMap();
  const lowHigh = (v) => {
    if (!extremes.has(v)) extremes.set(v, v.reduce(([low, high], x) => [Math.min(low, x), Math.max(high, x)], [Infinity, -Infinity]));
    return extremes.get(v);
  };

  // --- tables of the prompt ----------------------------------------------------------------------------------------
  const inTable = () => {
    const strength = (each) => Math.max(...told().map((m) => Math.abs(each[2][m])));
    return prompt().effects.filter((each) => strength(each) > 0).sort((a, b) => strength(b) - strength(a));
  };
  const inModels = (effect) => (havers(effect) < told().length ? `${havers(effect)} of ${told().length}` : told().length === 2 ? "both" : "all");
  const effectsTable = () => {
    const shown = new Set(chosen().flatMap(shownOf));
    const rows = inTable().map((effect) => {
      const key = keyOf(effect);
      return make("tr", { "data-key": key, class: [shown.has(effect) ? "" : "unshown", state.open === key ? "open" : ""].join(" ") || null },
        make("td", {}, kindOf(effect)),
        make("td", {}, make("button", { type: "button", class: "row", "aria-expanded": state.open === key ? "true" : "false" }, wordsOf(effect))),
        told().map((m) => make("td", { class: "n" }, number(effect[2][m]), effect[2][m] && unsure(effect, m) ? make("small", { class: "unsure", title: `At least strength: ${signed(effect[3][m])}` }, " ?") : "")),
        told().length > 1 ? make("td", {}, havers(effect) > 1 ? make("span", { class: "box" }, inModels(effect)) : "") : null);
    });
    const head = make("tr", {}, make("th", { scope: "col" }, "kind"), make("th", { scope: "col" }, "words"),
      told().map((m) => make("th", { scope: "col", class: "n" }, modelName(m))),
      told().length > 1 ? make("th", { scope: "col" }, make("span", { class: "hidden" }, "models that have it with one sign")) : null);
    $("effects").replaceChildren(rows.length
      ? make("table", {}, make("thead", {}, head), make("tbody", {}, rows))
      : make("p", {}, "No effects: v hardly depends on these words."));
    $("effects-note").replaceChildren("In nats, strongest first. ", make("b", {}, "AND"), " acts when all its words are there, ",
      make("b", {}, "OR"), " when any is. –: none of this model’s effects. ?: less than half as large in the explanation of least strength, so v does not tell its size. Grey: not in the picture.");
  };

  const detail = () => {
    const effect = prompt().effects.find((each) => keyOf(each) === state.open);
    if (!effect) {
      $("detail").replaceChildren();
      return;
    }
    const order = bits(effect[1]);
    const kind = order === 1 ? "Effect of one word" : effect[0] ? `OR of ${order} words: acts when any of them is there` : `AND of ${order} words: acts when all of them are there`;
    const rows = data.models.map((_, m) => {
      const place = ranked(m).indexOf(effect);
      return make("tr", {}, make("th", { scope: "row" }, modelName(m)), make("td", { class: "n" }, number(effect[2][m])),
        make("td", { class: "n" }, place < 0 ? "–" : `${place + 1} of ${ranked(m).length}`),
        make("td", { class: "n" }, beside(effect[3][m])),
        make("td", { class: "n" }, beside(effect[4][m])),
        effect[5] ? make("td", { class: "n" }, effect[5][m] ? effect[5][m].map((x) => x.toFixed(2)).join(" to ") : "–") : null);
    });
    const having = data.models.map((_, m) => m).filter((m) => effect[2][m]);
    const doubtful = having.filter((m) => unsure(effect, m));
    const sharing = !several ? null : having.length < 2 ? ["Only in ", modelName(having[0]), "."]
      : having.every((m) => effect[2][m] * effect[2][having[0]] > 0) ? [having.length === data.models.length ? "In all models, with the same sign." : `In ${having.length} of ${data.models.length} models, with the same sign.`]
      : ["In several models, with opposite signs."];
    $("detail").replaceChildren(make("div", {},
      make("h3", {}, wordsOf(effect)), make("p", {}, kind, ". ", sharing),
      make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, ""), make("th", { scope: "col", class: "n" }, "effect"), make("th", { scope: "col", class: "n" }, "rank"),
        make("th", { scope: "col", class: "n", title: "Among all explanations within the noise bound, the one whose effects have the least total strength, proved" }, "least strength"),
        make("th", { scope: "col", class: "n", title: "Harsanyi dividend of these words: the AND effect where no OR effects are allowed" }, "AND only"),
        effect[5] ? make("th", { scope: "col", class: "n", title: "At least and at most of its size in all explanations within the noise bound whose strength is within a thousandth of the least, proved. 0 at least: it may be none" }, "size, proved") : null)), make("tbody", {}, rows)),
      doubtful.length ? make("p", {}, make("b", {}, "Not sure. "), "The explanation of least strength gives v about as well with less than half of it in ", listed(doubtful.map((m) => data.models[m].label), "and"), ": v does not tell how large it is.") : null,
      make("p", {}, make("b", {}, "Check it."), order === 1 ? "" : effect[0] ? " Only masking all of its words takes an OR away." : " Masking any one of its words takes an AND away.", " What the models do, all other words there:"),
      checkTable(effect),
      make("p", {}, make("button", { type: "button", onclick: () => { state.there = everyone() & ~effect[1]; changed(); } }, order === 1 ? "Mask its word" : "Mask its words"), " ",
        make("button", { type: "button", onclick: () => { state.open = null; changed(); } }, "Close"))));
  };
  const checkTable = (effect) => {
    const all = everyone(), single = players(effect[1]);
    const masks = [0, ...(single.length > 1 ? single.map((i) => 1 << i) : []), effect[1]];
    const rows = masks.map((masked) => {
      const there = all & ~masked;
      const words = !masked ? "nothing" : listed(players(masked).map((i) => prompt().words[i]), "and");
      return make("tr", {}, make("td", {}, make("button", { type: "button", class: "row", onclick: () => { state.there = there; changed(); } }, words)),
        told().map((m) => {
          const v = values(m);
          return [make("td", { class: "n" }, v ? make("b", {}, signed(v[there])) : "–"), make("td", { class: "n" }, signed(sumAt(m, shownOf(m), there)))];
        }));
    });
    const heads = told().map((m) => make("th", { scope: "colgroup", colspan: 2, class: "n" }, modelName(m)));
    const names = told().map(() => [make("th", { scope: "col", class: "n" }, "v"), make("th", { scope: "col", class: "n" }, "effects")]);
    const table = make("table", {}, make("thead", {}, several ? make("tr", {}, make("td", {}), heads) : null, make("tr", {}, make("th", { scope: "col" }, "masked"), names)), make("tbody", {}, rows));
    return [make("div", { class: "scroll" }, table), single.length === 2 ? told().map((m) => together(m, single, effect[0])) : null];
  };
  // What two words do together, all other words there: what masking both does beyond masking each. Of an AND that is its
  // effect, which masking either takes away; of an OR the opposite, since only masking both takes it away.
  const together = (m, [i, j], isOr) => {
    const v = values(m), all = everyone();
    if (!v) return null;
    const change = (masked) => v[all & ~masked] - v[all];
    const one = change(1 << i), other = change(1 << j), both = change((1 << i) | (1 << j));
    const sign = isOr ? -1 : 1, effects = (masked) => sumAt(m, shownOf(m), all & ~masked);
    const expected = effects((1 << i) | (1 << j)) - effects(1 << i) - effects(1 << j) + effects(0);
    return make("p", {}, several ? [modelName(m), ": "] : "", `masking each alone changes v by ${signed(one)} and ${signed(other)}, masking both by ${signed(both)}. Beyond each alone that is an ${isOr ? "OR" : "AND"} of `,
      make("b", {}, `${signed(sign * (both - one - other))} nats`), "; all effects shown make it ", make("b", {}, signed(sign * expected)), ".");
  };

  const orders = () => {
    const shown = told(), n = prompt().players.length;
    const strengths = shown.map((m) => {
      const found = Array.from({ length: n }, () => [0, 0]);
      for (const each of ranked(m)) found[bits(each[1]) - 1][each[2][m] < 0 ? 1 : 0] += Math.abs(each[2][m]);
      return found;
    });
    const last = Math.max(1, ...strengths.flatMap((found) => found.map(([a, b], i) => (a + b > 0 ? i + 1 : 0))));
    const most = Math.max(1e-9, ...strengths.flat(2)), height = 44, step = 30;
    $("orders").replaceChildren(...shown.map((m, at) => {
      const found = strengths[at].slice(0, last);
      const label = found.map(([a, b], i) => `order ${i + 1}: +${a.toFixed(2)} −${b.toFixed(2)}`).join("; ");
      const svg = draw("svg", { width: 60 + step * last, height: 2 * height + 34, role: "img", "aria-label": label });
      found.forEach(([up, down], i) => {
        const x = 38 + step * i, a = (height * up) / most, b = (height * down) / most, middle = height + 10;
        svg.append(
          draw("rect", { class: "bar-up", x, width: step - 10, y: middle - a, height: a }, draw("title", {}, `+${up.toFixed(2)} nats`)),
          draw("rect", { class: "bar-down", x, width: step - 10, y: middle, height: b }, draw("title", {}, `−${down.toFixed(2)} nats`)),
          draw("text", { x: x + (step - 10) / 2, y: 2 * height + 26, "text-anchor": "middle" }, String(i + 1)));
      });
      svg.append(draw("line", { class: "axis", x1: 34, x2: 40 + step * last, y1: height + 10, y2: height + 10 }),
        draw("text", { x: 30, y: 16, "text-anchor": "end" }, most.toFixed(1)), draw("text", { x: 30, y: height + 14, "text-anchor": "end" }, "0"),
        draw("text", { x: 30, y: 2 * height + 12, "text-anchor": "end" }, most.toFixed(1)));
      return make("div", {}, several ? modelName(m) : "", svg);
    }));
  };

  // --- heading, legend, warnings -----------------------------------------------------------------------------------
  const heading = () => {
    const [a, b] = state.models, first = chosen()[0], two = a >= 0 && b >= 0;
    const same = !two || prompt().models[a].target === prompt().models[b].target;
    $("prompt-title").replaceChildren(...["What moves ", quoted(first), same ? "" : [" and ", quoted(b)], " after this prompt?"].flat(3));
    const about = (m) => {
      const entry = prompt().models[m], fit = fitShown(m);
      return [modelName(m), ` (p ${percent(entry.p)}`, fit === null ? "" : `; R² ${fitText(fit)} of the ${shownOf(m).length} effects shown`, ")"];
    };
    $("legend").replaceChildren(...[
      two ? ["Above the words ", about(a), ", below ", about(b), ". "] : [about(first), ". ", "AND effects above the words, OR below. "],
      make("span", { class: "key" }, "▬ one word "), " ", make("span", { class: "key" }, "●–● all of these words (AND) "), " ",
      make("span", { class: "key" }, "○┄○ any of these words (OR) "), " ", make("span", { class: "more" }, "blue: likelier"), ", ", make("span", { class: "less" }, "orange: less likely"), ", nats",
      two ? [", ", make("span", { class: "box" }, "grey: in both")] : "", ". ", make("b", {}, "Click a word to mask it."),
    ].flat(4));
    for (const m of chosen()) {
      const share = prompt().models[m].unreliable;
      if (share === undefined) continue;
      $("legend").append(" ", modelName(m), `: ${Math.round(100 * share)}% of the strength is unreliable, in effects with words labelled irrelevant or forbidden.`);
    }
    const seen = new Map();
    for (const m of told()) for (const each of prompt().models[m].warnings) seen.set(each, [...(seen.get(each) || []), m]);
    $("warnings").replaceChildren(...[...seen].map(([text, models]) =>
      make("p", { class: "warning" }, "⚠ ", several ? [models.map((m, i) => [i ? ", " : "", modelName(m)]), ": "].flat(2) : "", apart(text))));
    if (told().some((m) => !prompt().models[m].v)) {
      $("warnings").append(make("p", { class: "warning" }, "The values of this prompt are not in this page, which would grow too large: masking shows what the effects add up to, not the model. Write a page that has them with ",
        make("code", {}, "andor report RUN --values "), apart(prompt().id), "."));
    }
  };

  // --- all together ------------------------------------------------------------------------------------------------
  const link = () => {
    const found = new URLSearchParams();
    found.set("p", prompt().id);
    const masked = players(everyone() & ~state.there);
    if (masked.length) found.set("mask", masked.join(","));
    if (state.asked) found.set("k", state.shown);
    if (several && String(state.models) !== "0,1") found.set("models", state.models.join(","));
    return "#" + found.toString().replaceAll("%2C", ",");
  };
  let ready = false;
  const remember = () => {
    if (ready && location.hash !== link()) history.replaceState(null, "", link());
  };
  const changed = () => { // the mask, or what is open
    mark(); readout(); detail(); remember();
    for (const row of document.querySelectorAll("#effects tr[data-key]")) {
      row.classList.toggle("open", row.dataset.key === state.open);
      row.querySelector("button").setAttribute("aria-expanded", row.dataset.key === state.open ? "true" : "false");
    }
    $("all").disabled = state.there === everyone();
    $("none").disabled = state.there === 0;
  };
  const redraw = () => { // which effects are shown
    $("shown").max = enough();
    state.shown = state.asked ? Math.min(state.shown, enough()) : enough();
    $("shown").value = state.shown;
    $("shown-number").textContent = state.shown;
    heading(); effectsTable(); layout(); orders(); changed();
  };
  const choose = (place, there = null) => {
    state.place = place;
    state.there = there === null ? everyone() : there;
    state.open = state.lit = null;
    $("choose").value = place;
    $("previous").disabled = place === 0;
    $("next").disabled = place === data.prompts.length - 1;
    for (const row of document.querySelectorAll("#prompts tbody tr")) {
      if (Number(row.dataset.place) === place) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
    writeText();
    redraw();
  };
  // The address says the prompt, the masked words, how many effects, which models. Whatever else it says is ignored.
  const follow = () => {
    const asked = new URLSearchParams(location.hash.slice(1));
    const place = data.prompts.findIndex((each) => each.id === asked.get("p"));
    if (place < 0) return false;
    const n = data.prompts[place].players.length;
    const masked = (asked.get("mask") || "").split(",").filter((each) => /^\d+$/.test(each)).map(Number).filter((i) => i < n);
    const k = asked.get("k");
    state.asked = k !== null && /^\d+$/.test(k);
    if (state.asked) state.shown = Number(k);
    const models = (asked.get("models") || "").split(",").map(Number);
    state.models = several ? [0, 1] : [0, -1];
    if (several && models.length === 2 && models.every((m) => Number.isInteger(m) && m >= -1 && m < data.models.length) && models[0] !== models[1]) state.models = models;
    pickers();
    choose(place, new Set(masked).size ? [...new Set(masked)].reduce((there, i) => there & ~(1 << i), 2 ** n - 1) : 2 ** n - 1);
    return true;
  };

  // --- saving ------------------------------------------------------------------------------------------------------
  const save = (name, content, type) => {
    const url = typeof content === "string" && content.startsWith("data:") ? content : URL.createObjectURL(new Blob([content], { type }));
    const anchor = make("a", { href: url, download: name });
    document.body.append(anchor);
    anchor.click();
    anchor.remove();
  };
  const fileName = (kind) => `${prompt().id}.${kind}`;
  // The picture as one SVG that stands alone: colours of paper, each word where the browser has put it.
  const standalone = () => {
    document.documentElement.dataset.paper = "";
    const copied = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "paint-order", "opacity", "font-size", "font-weight", "font-family"];
    const copy = $("combs").cloneNode(true), style = (element) => getComputedStyle(element);
    const originals = $("combs").querySelectorAll("*"), copies = copy.querySelectorAll("*");
    originals.forEach((element, i) => {
      for (const name of copied) copies[i].setAttribute(name, style(element).getPropertyValue(name));
      copies[i].removeAttribute("class");
    });
    const frame = $("picture").getBoundingClientRect(), top = 46, words = [];
    const walker = document.createTreeWalker($("text"), NodeFilter.SHOW_TEXT), range = document.createRange();
    while (walker.nextNode()) {
      const node = walker.currentNode, look = style(node.parentElement);
      const size = parseFloat(look.fontSize);
      for (const match of node.data.matchAll(/\S+/gu)) {
        // A word, or where it is broken (Chinese, Japanese) its part on each line.
        let from = match.index;
        const end = from + match[0].length;
        while (from < end) {
          range.setStart(node, from);
          let to = end;
          range.setEnd(node, to);
          while (to > from + 1 && range.getClientRects().length > 1) range.setEnd(node, --to);
          const box = range.getClientRects()[0];
          if (!box) break;
          const text = node.data.slice(from, to), turned = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]/.test(text);
          words.push(draw("text", { x: (turned ? box.right : box.left) - frame.left, y: box.top - frame.top + 0.78 * box.height,
            direction: turned ? "rtl" : "ltr", "font-size": size, "font-weight": look.fontWeight, "font-family": look.fontFamily, fill: look.color,
            opacity: look.opacity, "text-decoration": look.textDecorationLine === "none" ? null : look.textDecorationLine, textLength: box.width, lengthAdjust: "spacingAndGlyphs" }, text));
          from = to;
        }
      }
    }
    copy.prepend(...words);
    const ink = style(document.body).color, paper = style(document.body).backgroundColor;
    delete document.documentElement.dataset.paper;
    const family = "system-ui, 'DejaVu Sans', sans-serif";
    const title = draw("text", { x: 4, y: 20, "font-size": 16, "font-weight": 700, "font-family": family, fill: ink }, $("prompt-title").textContent);
    const said = [];
    const [a, b] = state.models;
    const about = (m) => `${data.models[m].label} p ${percent(prompt().models[m].p)}`;
    said.push(a >= 0 && b >= 0 ? `above ${about(a)}, below ${about(b)}` : `${about(chosen()[0])}; AND above, OR below`, "● all of these words, ○ any", "blue likelier, orange less likely, nats");
    const legend = draw("text", { x: 4, y: 38, "font-size": 11, "font-family": family, fill: ink }, visible(said.join(" · ")));
    const w = Math.ceil(Math.max(frame.width + 8, width($("prompt-title").textContent, `700 16px ${family}`) + 12, width(said.join(" · "), `11px ${family}`) + 12)), h = Math.ceil(frame.height + top + 8);
    copy.setAttribute("y", top);
    copy.removeAttribute("id");
    const svg = draw("svg", { xmlns: "http://www.w3.org/2000/svg", width: w, height: h, viewBox: `0 0 ${w} ${h}` },
      draw("rect", { width: w, height: h, fill: paper }), title, legend, copy);
    return [new XMLSerializer().serializeToString(svg), w, h];
  };
  const savePng = () => {
    const [text, w, h] = standalone(), image = new Image();
    image.onload = () => {
      const canvas = make("canvas", { width: 2 * w, height: 2 * h });
      const context = canvas.getContext("2d");
      context.scale(2, 2);
      context.drawImage(image, 0, 0, w, h);
      canvas.toBlob((blob) => save(fileName("png"), blob, "image/png"));
    };
    image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
  };
  const csv = () => {
    // Quoted; a cell that a spreadsheet would take for a formula begins with an apostrophe.
    const cell = (text) => `"${String(text).replace(/^(?=[=+\-@\t\r])/, "'").replaceAll('"', '""')}"`;
    const lines = [["prompt", "model", "target", "rank", "kind", "order", "words", "effect_nats"].join(",")];
    data.models.forEach((model, m) => ranked(m).forEach((effect, i) => lines.push([
      cell(prompt().id), cell(model.name), cell(prompt().models[m].target), i + 1, effect[0] ? "OR" : "AND", bits(effect[1]),
      cell(players(effect[1]).map((each) => prompt().words[each]).join(effect[0] ? " ∨ " : " ∧ ")), effect[2][m]].join(","))));
    return "\ufeff" + lines.join("\r\n") + "\r\n";
  };
  const tell = (text) => {
    $("said").textContent = text;
    setTimeout(() => { if ($("said").textContent === text) $("said").textContent = ""; }, 4000);
  };

  // --- what people do ----------------------------------------------------------------------------------------------
  const turn = (i) => { state.there ^= 1 << i; changed(); };
  $("text").addEventListener("click", (event) => {
    const player = event.target.closest(".player");
    if (player) turn(Number(player.dataset.player));
  });
  $("text").addEventListener("keydown", (event) => {
    const player = event.target.closest(".player");
    if (player && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      turn(Number(player.dataset.player));
    }
  });
  const point = (key) => { if (state.lit !== key) { state.lit = key; mark(); } };
  for (const [id, inside] of [["combs", ".effect"], ["effects", "tr[data-key]"]]) {
    const keyAt = (event) => event.target.closest?.(inside)?.dataset.key || null;
    $(id).addEventListener("pointerover", (event) => point(keyAt(event)));
    $(id).addEventListener("pointerleave", () => point(null));
    $(id).addEventListener("focusin", (event) => point(keyAt(event)));
    $(id).addEventListener("focusout", () => point(null));
    $(id).addEventListener("click", (event) => {
      const key = keyAt(event);
      if (!key) return;
      state.open = state.open === key ? null : key;
      state.lit = null;
      changed();
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && (state.open || state.lit)) { state.open = state.lit = null; changed(); }
  });
  $("all").addEventListener("click", () => { state.there = everyone(); changed(); });
  $("none").addEventListener("click", () => { state.there = 0; changed(); });
  $("invert").addEventListener("click", () => { state.there ^= everyone(); changed(); });
  $("shown").addEventListener("input", () => { state.asked = true; state.shown = Number($("shown").value); redraw(); remember(); });
  $("choose").addEventListener("change", () => choose(Number($("choose").value)));
  $("previous").addEventListener("click", () => choose(state.place - 1));
  $("next").addEventListener("click", () => choose(state.place + 1));
  $("save-svg").addEventListener("click", () => save(fileName("svg"), standalone()[0], "image/svg+xml"));
  $("save-png").addEventListener("click", savePng);
  $("save-csv").addEventListener("click", () => save(fileName("csv"), csv(), "text/csv"));
  $("link").addEventListener("click", () => {
    history.replaceState(null, "", link());
    const done = navigator.clipboard?.writeText(location.href);
    (done || Promise.reject()).then(() => tell("Link copied."), () => tell("The link is in the address bar."));
  });
  $("search").addEventListener("input", () => {
    const asked = $("search").value.trim().toLowerCase();
    let found = 0;
    const rows = [...document.querySelectorAll("#prompts tbody tr")];
    for (const row of rows) {
      const { id, text, models } = data.prompts[Number(row.dataset.place)];
      row.hidden = !(row.textContent + " " + id + " " + text + " " + models.map((each) => each.target).join(" ")).toLowerCase().includes(asked);
      found += !row.hidden;
    }
    $("found").textContent = asked ? `${found} of ${rows.length} prompts` : `${rows.length} prompt${rows.length === 1 ? "" : "s"}`;
  });
  document.querySelectorAll("#prompts thead th").forEach((head, column, heads) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending" || (head.getAttribute("aria-sort") === "none" && head.classList.contains("n"));
    const again = head.getAttribute("aria-sort") === "descending";
    const sign = down && !again ? -1 : 1;
    for (const each of heads) each.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", sign < 0 ? "descending" : "ascending");
    const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent, body = document.querySelector("#prompts tbody");
    const numeric = column === 0 || head.classList.contains("n");
    const compare = (x, y) => {
      const [a, b] = [value(x), value(y)];
      if (!numeric) return sign * a.localeCompare(b);
      return (a === "") - (b === "") || sign * (Number(a) - Number(b)); // what has no number comes last either way
    };
    body.replaceChildren(...[...body.rows].sort(compare));
  }));
  document.querySelector("#prompts tbody").addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (!row || event.target.closest("a") || String(getSelection())) return;
    choose(Number(row.dataset.place));
    $("prompt").scrollIntoView();
  });
  const pickers = () => {
    if (!several) return;
    const name = (where, at) => make("label", {}, where, make("select", { "data-at": at, onchange: (event) => {
      const m = Number(event.target.value), other = 1 - at;
      if (m === state.models[other]) state.models[other] = state.models[at]; // they change places
      state.models[at] = m;
      pickers(); redraw();
    } }, data.models.map((each, m) => make("option", { value: m, selected: m === state.models[at] ? "" : null }, visible(each.label))),
      at ? make("option", { value: -1, selected: state.models[1] < 0 ? "" : null }, "no second model") : null));
    $("pick").replaceChildren(name("above", 0), name("below", 1));
  };
  addEventListener("hashchange", () => {
    if (location.hash !== link() && follow()) $("prompt").scrollIntoView();
  });
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));

  // --- begin -------------------------------------------------------------------------------------------------------
  $("choose").append(...data.prompts.map((each, place) => {
    const text = `${each.id}: ${each.text.replace(/\s+/g, " ")}`;
    return make("option", { value: place }, visible(text.length > 60 ? text.slice(0, 59) + "…" : text));
  }));
  if (data.prompts.length === 1) for (const id of ["previous", "next", "choose"]) $(id).hidden = true;
  $("sentence").style.minHeight = `${1.5 * (data.models.length + 1)}em`; // what is below stays where it is
  pickers();
  if (!follow()) choose(0);
  else $("prompt").scrollIntoView();
  ready = true;
  let before = $("picture").clientWidth;
  new ResizeObserver(() => {
    const now = $("picture").clientWidth;
    if (now !== before) { before = now; layout(); }
  }).observe($("picture"));
})();
