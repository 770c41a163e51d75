// The interactive map: dots that become thumbnails, zoom, pan, hover, and neighbours by a click.
(() => {
  const root = document.getElementById("map");
  if (!root) return;
  const data = JSON.parse(document.getElementById("map-data").textContent);
  const sprite = root.querySelector("img.sprite");
  const canvas = root.querySelector("canvas.plane");
  const tip = root.querySelector(".tip");
  const near = root.querySelector(".near");
  const said = root.querySelector(".said");
  const legend = root.querySelector(".legend");
  const count = data.x.length;
  const PAD = 28, THUMB = 34, ROOM = 46, REACH = 16, MAX_ZOOM = 40;
  const PALETTE = ["#4c78d8", "#e8832a", "#3aa655", "#d6453d", "#9467c8", "#a0705c", "#de77b8", "#8a8f98",
    "#b5a82c", "#22aabf"];
  const BY_ERROR = ["#d6453d", "#4c78d8"];
  const view = { zoom: 1, left: 0, top: 0 };
  const areThumbnails = () => view.zoom * Math.sqrt((width() * height()) / count) > ROOM && sprite.naturalWidth > 0;
  let mode = root.querySelector("input:checked").value;
  let hovered = -1, selected = -1, only = null;

  const colour = (i) => {
    const value = data[mode][i];
    if (value < 0) return "#8a8f98";
    if (mode === "right") return BY_ERROR[value];
    return value < 10 ? PALETTE[value] : `hsl(${(value * 137.5) % 360} 60% 55%)`;
  };
  const label = (i) => (data.label[i] < 0 ? "no label" : data.names[data.label[i]]);
  const width = () => canvas.clientWidth, height = () => canvas.clientHeight;
  const place = (i) => [
    (PAD + data.x[i] * (width() - 2 * PAD)) * view.zoom + view.left,
    (PAD + data.y[i] * (height() - 2 * PAD)) * view.zoom + view.top,
  ];
  const hidden = (i) => only !== null && data[mode][i] !== only;

  function thumbnail(context, i, x, y, side) {
    const [w, h] = data.cell, column = i % data.columns, row = Math.floor(i / data.columns);
    const scale = side / Math.max(w, h);
    context.drawImage(sprite, column * w, row * h, w, h, x, y, w * scale, h * scale);
  }

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = width() * ratio;
    canvas.height = height() * ratio;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const style = getComputedStyle(root);
    const ink = style.getPropertyValue("--ink");
    const asThumbnails = areThumbnails();
    const order = [...Array(count).keys()];
    if (mode === "right") order.sort((a, b) => data.right[b] - data.right[a]);
    for (const i of order) {
      const [x, y] = place(i);
      if (x < -THUMB || y < -THUMB || x > width() + THUMB || y > height() + THUMB) continue;
      context.globalAlpha = hidden(i) ? 0.12 : 1;
      context.fillStyle = colour(i);
      if (asThumbnails) {
        context.fillRect(x - THUMB / 2 - 2, y - THUMB / 2 - 2, THUMB + 4, THUMB + 4);
        thumbnail(context, i, x - THUMB / 2, y - THUMB / 2, THUMB);
      } else {
        context.beginPath();
        context.arc(x, y, count > 300 ? 4 : 5.5, 0, 7);
        context.fill();
      }
    }
    context.globalAlpha = 1;
    context.strokeStyle = ink;
    if (selected >= 0) {
      context.lineWidth = 1.2;
      const from = place(selected);
      for (const other of data.near[selected]) {
        context.beginPath();
        context.moveTo(...from);
        context.lineTo(...place(other));
        context.stroke();
      }
    }
    for (const i of [selected, hovered]) {
      if (i < 0) continue;
      context.lineWidth = 2.5;
      context.beginPath();
      context.arc(...place(i), asThumbnails ? THUMB * 0.75 : 9, 0, 7);
      context.stroke();
    }
    root.classList.toggle("zoomed", view.zoom > 1);
  }

  function nearestTo(x, y) {
    let best = -1, least = (areThumbnails() ? THUMB * 0.7 : REACH) ** 2;
    for (let i = 0; i < count; i++) {
      if (hidden(i)) continue;
      const [a, b] = place(i), distance = (a - x) ** 2 + (b - y) ** 2;
      if (distance < least) [best, least] = [i, distance];
    }
    return best;
  }

  function small(i) {
    const [w, h] = data.cell, each = document.createElement("canvas");
    each.width = w;
    each.height = h;
    thumbnail(each.getContext("2d"), i, 0, 0, Math.max(w, h));
    return each;
  }

  function describe(i) {
    const parts = [label(i)];
    if (data.right[i] === 0) parts.push(`its neighbours say ${data.names[data.vote[i]]}`);
    parts.push(data.seen[i] ? "trained on" : "not trained on");
    return parts.join(" · ");
  }

  function hover(i) {
    if (i === hovered) return;
    hovered = i;
    tip.hidden = i < 0;
    if (i >= 0) {
      const words = document.createElement("div");
      words.textContent = describe(i);
      tip.replaceChildren(small(i), words);
      const [x, y] = place(i);
      tip.style.left = `${Math.max(0, Math.min(x + 14, width() - 136))}px`;
      tip.style.top = y > height() / 2 ? "auto" : `${y + 14}px`;
      tip.style.bottom = y > height() / 2 ? `${height() - y + 14}px` : "auto";
    }
    draw();
  }

  function select(i) {
    selected = i;
    if (i < 0) {
      said.textContent = "Click an image to see its nearest neighbours.";
      near.replaceChildren();
    } else {
      said.textContent = `${describe(i)}. The first is the image itself; then its nearest neighbours in this map:`;
      near.replaceChildren(...[i, ...data.near[i]].map((other, rank) => {
        const button = document.createElement("button"), words = document.createElement("span");
        const isSame = data.label[other] === data.label[i], known = data.label[i] >= 0 && data.label[other] >= 0;
        words.textContent = rank ? `${label(other)} ${data.cosine[i][rank - 1].toFixed(2)}` : label(i);
        if (rank && known) words.className = isSame ? "same" : "other";
        if (rank && known) words.textContent = `${isSame ? "✓" : "✗"} ${words.textContent}`;
        button.type = "button";
        button.append(small(other), words);
        button.addEventListener("click", () => select(other));
        return button;
      }));
    }
    draw();
  }

  function zoomBy(factor, x = width() / 2, y = height() / 2) {
    const zoom = Math.min(MAX_ZOOM, Math.max(1, view.zoom * factor));
    view.left = x - ((x - view.left) * zoom) / view.zoom;
    view.top = y - ((y - view.top) * zoom) / view.zoom;
    view.zoom = zoom;
    stay();
  }

  function stay() {
    const clamp = (value, size) => Math.min(0, Math.max(size * (1 - view.zoom), value));
    view.left = clamp(view.left, width());
    view.top = clamp(view.top, height());
    tip.hidden = true;
    hovered = -1;
    draw();
  }

  function explain() {
    only = null;
    const values = [...new Set(data[mode])].sort((a, b) => a - b);
    const names = { right: ["another class", "the same class"], seen: ["not trained on", "trained on"], label: data.names };
    legend.replaceChildren(...values.map((value) => {
      const button = document.createElement("button"), dot = document.createElement("i");
      const members = data[mode].filter((each) => each === value).length;
      const name = value < 0 ? "no label" : (names[mode]?.[value] ?? `group ${value + 1}`);
      dot.style.background = colour(data[mode].indexOf(value));
      button.type = "button";
      button.setAttribute("aria-pressed", "false");
      button.append(dot, `${mode === "right" && value >= 0 ? "neighbours say " : ""}${name} (${members})`);
      button.addEventListener("click", () => {
        only = only === value ? null : value;
        for (const each of legend.children) each.setAttribute("aria-pressed", String(each === button && only !== null));
        draw();
      });
      return button;
    }));
    draw();
  }

  const fingers = new Map();
  let moved = 0;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left - canvas.clientLeft, event.clientY - box.top - canvas.clientTop];
  };
  canvas.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, at(event));
    if (fingers.size === 1) moved = 0;
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = at(event), before = fingers.get(event.pointerId);
    if (!before) return hover(nearestTo(x, y));
    const others = [...fingers].filter(([id]) => id !== event.pointerId).map(([, spot]) => spot);
    moved += Math.hypot(x - before[0], y - before[1]);
    fingers.set(event.pointerId, [x, y]);
    if (others.length) {
      const [a, b] = others[0];
      zoomBy(Math.hypot(x - a, y - b) / Math.max(1, Math.hypot(before[0] - a, before[1] - b)), a, b);
    } else if (view.zoom > 1) {
      view.left += x - before[0];
      view.top += y - before[1];
      stay();
    }
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => {
      const known = fingers.delete(event.pointerId);
      if (name === "pointerup" && known && !fingers.size && moved < 6) select(nearestTo(...at(event)));
    });
  }
  canvas.addEventListener("pointerleave", () => hover(-1));
  // A wheel scrolls the page until the map was clicked, so that nobody is caught in it.
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas && !event.ctrlKey) return;
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY / 400), ...at(event));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (event.key === "+" || event.key === "=") zoomBy(1.5);
    else if (event.key === "-") zoomBy(1 / 1.5);
    else if (event.key === "Escape") select(-1);
    else if (steps[event.key] && view.zoom > 1) {
      view.left += steps[event.key][0];
      view.top += steps[event.key][1];
      stay();
    } else return;
    event.preventDefault();
  });
  root.addEventListener("click", (event) => {
    const factor = event.target.dataset?.zoom;
    if (factor) zoomBy(Number(factor) || 1 / MAX_ZOOM);
  });
  root.addEventListener("change", (event) => {
    mode = event.target.value;
    explain();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(stay).observe(canvas);
  if (!sprite.complete) sprite.addEventListener("load", draw);
  select(-1);
  explain();
})();
