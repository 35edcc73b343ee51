// The page of a run: it asks for a frame, draws it with its faces, and asks for the next one.

const EMOTIONS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];
const COLOURS = {
  angry: "#d55e00", disgust: "#009e73", fear: "#cc79a7", happy: "#f0e442", sad: "#0072b2", surprise: "#56b4e9",
  neutral: "#e1e1e1", uncertain: "#5f5f5b",
};
const WHITE_ON = new Set(["sad", "uncertain"]);
const MINUTE_MS = 60_000;
const GONE_MS = 1_000; // a face that was not seen for so long has left
const MOST_ROWS = 4; // faces in the time line
const PANEL_MS = 120; // between two changes of what stands beside the picture

const $ = (id) => document.getElementById(id);
const settings = Object.assign(
  { boxes: true, labels: true, names: true, mirror: null, blur: false },
  JSON.parse(localStorage.getItem("settings") ?? "{}"),
);
const tiles = new Map(); // source -> Tile
const faces = new Map(); // source and track -> Face
let socket = null;
let status = { state: "starting", sources: [], processes: [] };
let paused = false;
let finished = false;
let attempts = 0;
const camera = {
  on: false, // whether this visitor wants it
  state: "off", // as the server has it: off, idle, wait, full, or the name of this visitor's source
  credits: 0, // pictures that may be sent
  key: "", // by which the server knows this page if its connection breaks
  stream: null,
  facing: "user",
  busy: false, // while a picture is made
};

// ------------------------------------------------------------------------------------------------ helpers

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function percent(value) {
  return `${Math.round(100 * value)} %`;
}

/** What is shown of a face: its smoothed values where there are any. */
function shown(face) {
  const values = face.smoothed ?? face;
  const emotion = values.uncertain ? "uncertain" : values.emotion;
  return { emotion, confidence: values.confidence, probabilities: values.probabilities };
}

/** What an emotion is called here: the run's settings may have words of another language. */
function word(emotion) {
  return status.words?.[emotion] ?? emotion;
}

/** People know themselves from mirrors: so their own picture is one, unless the camera looks away from them. */
function mirrored(source) {
  const own = camera.on && source === camera.state && camera.facing !== "environment";
  return settings.mirror ?? (own || (status.mirror ?? false));
}

/** What a source is called here. */
function title(source) {
  return source === camera.state ? "my camera" : source;
}

function several() {
  return tiles.size > 1;
}

// ------------------------------------------------------------------------------------------------ drawing

/** Draw a frame with its faces at (left, top), `scale` canvas pixels for each pixel of the source. */
function drawFrame(context, frame, left, top, scale, unit) {
  const width = frame.width * scale, height = frame.height * scale;
  const mirror = mirrored(frame.record.source);
  context.save();
  context.beginPath();
  context.rect(left, top, width, height);
  context.clip();
  context.save();
  if (mirror) {
    context.translate(2 * left + width, 0);
    context.scale(-1, 1);
  }
  context.drawImage(frame.bitmap, left, top, width, height);
  context.restore();
  const found = frame.record.faces.map((face) => {
    const [x, y, w, h] = face.box;
    const at = mirror ? frame.width - x - w : x;
    return { face, box: [left + at * scale, top + y * scale, w * scale, h * scale] };
  });
  found.sort((a, b) => b.box[2] * b.box[3] - a.box[2] * a.box[3]); // large faces, the nearest ones, first
  if (settings.blur) for (const { box } of found) blurBox(context, box);
  if (settings.boxes) for (const { face, box } of found) drawBox(context, box, shown(face).emotion, unit);
  const placed = [];
  for (const { face, box } of found) drawLabel(context, face, box, placed, [left, top, width, height], unit);
  context.restore();
}

const small = element("canvas", { width: 6, height: 8 });

function blurBox(context, [x, y, w, h]) {
  const grown = [x - 0.15 * w, y - 0.2 * h, 1.3 * w, 1.35 * h];
  const reach = small.getContext("2d");
  const canvas = context.canvas;
  const left = Math.max(0, grown[0]), top = Math.max(0, grown[1]);
  const right = Math.min(canvas.width, grown[0] + grown[2]), bottom = Math.min(canvas.height, grown[1] + grown[3]);
  if (right - left < 1 || bottom - top < 1) return;
  reach.drawImage(canvas, left, top, right - left, bottom - top, 0, 0, small.width, small.height);
  context.save();
  context.beginPath();
  context.ellipse((left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2, 0, 0, 7);
  context.clip();
  context.drawImage(small, left, top, right - left, bottom - top);
  context.restore();
}

function drawBox(context, [x, y, w, h], emotion, unit) {
  context.strokeStyle = "#000000a0";
  context.lineWidth = 4 * unit;
  context.strokeRect(x, y, w, h);
  context.strokeStyle = COLOURS[emotion];
  context.lineWidth = 2 * unit;
  context.strokeRect(x, y, w, h);
}

function drawLabel(context, face, [x, y], placed, [left, top, width, height], unit) {
  const { emotion, confidence } = shown(face);
  const words = [];
  if (settings.names) words.push(`${face.track}`);
  if (settings.labels) words.push(word(emotion));
  const text = words.join(" · ");
  if (!text) return;
  context.font = `600 ${13 * unit}px system-ui, "Liberation Sans", sans-serif`;
  const full = settings.labels ? `${text} ${percent(confidence)}` : text;
  const place = (words) => {
    const w = context.measureText(words).width + 10 * unit, h = 19 * unit;
    return {
      words, w, h,
      x: Math.max(left, Math.min(x - unit, left + width - w)),
      y: Math.max(top, Math.min(y - h - unit, top + height - h)),
    };
  };
  const clear = (a) => !placed.some((b) => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h);
  const label = [place(full), place(text)].find(clear);
  if (label === undefined) return; // a crowd: the list beside the picture has it all
  placed.push(label);
  context.fillStyle = COLOURS[emotion];
  context.beginPath();
  context.roundRect(label.x, label.y, label.w, label.h, 4 * unit);
  context.fill();
  context.fillStyle = WHITE_ON.has(emotion) ? "#fff" : "#000";
  context.textBaseline = "middle";
  context.fillText(label.words, label.x + 5 * unit, label.y + label.h / 2 + unit);
}

// -------------------------------------------------------------------------------------------------- tiles

class Tile {
  constructor(source) {
    this.source = source;
    this.frame = null;
    this.pending = null; // a frame that is to be drawn
    this.asked = false;
    this.canvas = element("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `${source}: no picture yet`);
    this.caption = element("figcaption", { textContent: source });
    this.figure = element("figure", {}, this.canvas, this.caption);
    $("pictures").append(this.figure);
  }

  ask() {
    if (paused || this.asked || socket?.readyState !== WebSocket.OPEN) return;
    this.asked = true;
    socket.send(JSON.stringify({ next: this.source }));
  }

  async take(record, width, height, jpeg) {
    this.asked = false;
    let bitmap;
    try {
      bitmap = await createImageBitmap(jpeg);
    } catch {
      this.ask();
      return;
    }
    if (paused) {
      bitmap.close();
      return;
    }
    this.pending?.bitmap.close();
    this.pending = { record, width, height, bitmap };
    requestAnimationFrame(() => this.show()); // does not come in a hidden tab, which so asks for nothing
  }

  show() {
    if (this.pending === null) return;
    this.frame?.bitmap.close();
    [this.frame, this.pending] = [this.pending, null];
    $("waiting").hidden = true;
    // On a phone one source has a box of its own shape; elsewhere the box is what is left of the window.
    $("pictures").style.setProperty("--shape", several() ? "4 / 3" : `${this.frame.width} / ${this.frame.height}`);
    this.draw();
    noteFaces(this.source, this.frame.record);
    this.ask();
  }

  draw() {
    const { clientWidth, clientHeight } = this.canvas;
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(clientWidth * ratio), height = Math.round(clientHeight * ratio);
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    if (this.frame === null || !width || !height) return;
    const scale = Math.min(width / this.frame.width, height / this.frame.height);
    const left = (width - this.frame.width * scale) / 2, top = (height - this.frame.height * scale) / 2;
    const unit = ratio * Math.max(0.75, Math.min(1, clientWidth / 600)); // px of the screen: small on a phone
    drawFrame(context, this.frame, left, top, scale, unit);
  }

  describe() {
    const state = status.sources.find((source) => source.name === this.source);
    const over = state?.ended ? ` · ${state.error ? "ended early" : "ended"}` : "";
    this.caption.textContent = title(this.source) + over;
    this.caption.hidden = !several() && !over;
    const words = this.frame?.record.faces.map((face) => `face ${face.track} ${word(shown(face).emotion)}`) ?? [];
    this.canvas.setAttribute("aria-label", `${this.source}: ${words.join(", ") || "no faces"}`);
  }
}

/** What this page shows: of visitors' cameras its own alone. */
function shownSources() {
  return status.sources.filter((source) => source.visitor === undefined || source.name === camera.state);
}

function updateTiles() {
  const names = new Set(shownSources().map((source) => source.name));
  for (const [name, tile] of tiles) {
    if (!names.has(name)) {
      tile.figure.remove();
      tiles.delete(name);
    }
  }
  for (const name of names) if (!tiles.has(name)) tiles.set(name, new Tile(name));
  layOut();
  for (const tile of tiles.values()) {
    tile.ask();
    tile.describe();
  }
  updateInvitation();
}

/** Arrange the tiles so that their pictures are as large as can be. */
function layOut() {
  const box = $("pictures"), count = tiles.size || 1;
  const frame = [...tiles.values()].find((tile) => tile.frame)?.frame;
  const shape = frame ? frame.width / frame.height : 4 / 3;
  let columns = 1, best = 0;
  for (let tried = 1; tried <= count; tried += 1) {
    const width = Math.min(box.clientWidth / tried, (box.clientHeight / Math.ceil(count / tried)) * shape);
    if (width > best) [columns, best] = [tried, width];
  }
  box.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  box.style.gridAutoRows = "minmax(0, 1fr)";
}

function redraw() {
  layOut();
  for (const tile of tiles.values()) tile.draw();
}

// -------------------------------------------------------------------------------------------------- faces

class Face {
  constructor(source, track) {
    this.source = source;
    this.track = track;
    this.past = []; // [from, to, emotion], ms of performance.now
    this.swatch = element("span", { className: "swatch" });
    this.word = element("b");
    this.sure = element("span");
    this.name = element("small");
    this.bars = EMOTIONS.map((emotion) => ({
      emotion,
      word: element("dt"),
      fill: element("i", { className: `fill-${emotion}` }),
      number: element("dd"),
    }));
    const list = element("dl", { className: "bars" });
    for (const bar of this.bars) {
      const around = element("dd", { className: "bar" }, bar.fill);
      around.setAttribute("aria-hidden", "true");
      list.append(bar.word, around, bar.number);
    }
    this.item = element("li", {}, element("h3", {}, this.swatch, this.word, this.sure, this.name), list);
  }

  note(face, now) {
    this.face = face;
    this.seen = now;
    const { emotion } = shown(face);
    const last = this.past.at(-1);
    if (last && last[2] === emotion && now - last[1] < GONE_MS) last[1] = now;
    else this.past.push([last && now - last[1] < GONE_MS ? last[1] : now, now, emotion]);
  }

  update() {
    const { emotion, confidence, probabilities } = shown(this.face);
    this.swatch.className = `swatch fill-${emotion}`;
    this.word.textContent = word(emotion);
    this.sure.textContent = percent(confidence);
    this.name.textContent = faceName(this);
    for (const bar of this.bars) {
      const value = probabilities[bar.emotion];
      bar.word.textContent = word(bar.emotion);
      bar.word.className = bar.emotion === emotion ? "top" : "";
      bar.fill.style.transform = `scaleX(${value.toFixed(3)})`;
      bar.number.textContent = percent(value);
    }
  }
}

function faceName(face) {
  return several() ? `face ${face.track}, ${title(face.source)}` : `face ${face.track}`;
}

function noteFaces(source, record) {
  const now = performance.now();
  for (const face of record.faces) {
    const key = `${source}\n${face.track}`;
    if (!faces.has(key)) faces.set(key, new Face(source, face.track));
    faces.get(key).note(face, now);
  }
}

function updatePanel() {
  if (paused) return;
  const now = performance.now();
  const inView = [];
  for (const [key, face] of faces) {
    while (face.past.length && face.past[0][1] < now - MINUTE_MS) face.past.shift();
    if (!face.past.length) faces.delete(key);
    if (now - face.seen < GONE_MS) inView.push(face);
    else face.item.remove();
  }
  inView.sort((a, b) => a.source.localeCompare(b.source) || a.track - b.track);
  const list = $("faces");
  for (const face of inView) if (!face.item.isConnected) list.append(face.item);
  for (const face of inView) {
    face.update();
    face.item.hidden = false;
  }
  // On a laptop nothing scrolls: faces for which there is no room are counted, in a line that takes room too.
  const room = $("people").getBoundingClientRect().bottom - 8;
  const below = (limit) => inView.filter((face) => face.item.getBoundingClientRect().bottom > limit);
  const scrolls = getComputedStyle($("people")).overflow !== "hidden";
  const leftOut = scrolls || !below(room).length ? [] : below(room - 24);
  for (const face of leftOut) face.item.hidden = true;
  $("more").textContent = leftOut.length ? `and ${leftOut.length} more` : inView.length ? "" : "nobody";
  drawTimeline(now);
}

function drawTimeline(now) {
  const canvas = $("timeline"), ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const rows = [...faces.values()].filter((face) => face.past.length);
  rows.sort((a, b) => b.seen - a.seen || a.track - b.track);
  const shownRows = rows.slice(0, MOST_ROWS).sort((a, b) => a.source.localeCompare(b.source) || a.track - b.track);
  const left = several() ? Math.min(150, width / 3) : 56, axis = 16, narrow = width < 500;
  const step = (height - axis) / MOST_ROWS;
  const x = (time) => left + (width - left) * Math.max(0, 1 - (now - time) / MINUTE_MS);
  context.font = `12px system-ui, "Liberation Sans", sans-serif`;
  context.textBaseline = "middle";
  for (const seconds of narrow ? [60, 30, 0] : [60, 45, 30, 15, 0]) {
    const at = x(now - 1000 * seconds);
    context.fillStyle = colour("line");
    context.fillRect(Math.min(at, width - 1), 0, 1, height - axis);
    context.fillStyle = colour("quiet");
    context.textAlign = seconds === 60 ? "left" : seconds === 0 ? "right" : "center";
    context.fillText(seconds ? `${seconds} s ago` : "now", at, height - axis / 2 + 1);
  }
  context.textAlign = "left";
  shownRows.forEach((face, row) => {
    const top = row * step + 2, tall = step - 4;
    context.fillStyle = colour("text");
    context.fillText(faceName(face), 0, top + tall / 2, left - 6);
    for (const [from, to, emotion] of face.past) {
      const a = x(from), b = Math.max(x(to), a + 1.5);
      context.fillStyle = colour(emotion);
      context.fillRect(a, top, b - a, tall);
      if (b - a > context.measureText(word(emotion)).width + 8) {
        context.fillStyle = WHITE_ON.has(emotion) ? "#fff" : "#000";
        context.fillText(word(emotion), a + 5, top + tall / 2 + 0.5);
      }
    }
  });
  describeTimeline(canvas, shownRows);
}

let described = 0;

function describeTimeline(canvas, rows) {
  if (performance.now() - described < 2000) return; // no faster than it can be read out
  described = performance.now();
  const texts = rows.map((face) => {
    const spent = {};
    for (const [from, to, emotion] of face.past) spent[emotion] = (spent[emotion] ?? 0) + to - from;
    const order = Object.entries(spent).sort((a, b) => b[1] - a[1]).slice(0, 3);
    return `${faceName(face)}: ${order.map(([emotion, ms]) => `${word(emotion)} ${Math.round(ms / 1000)} s`).join(", ")}`;
  });
  canvas.setAttribute("aria-label", texts.join("; ") || "Nobody was in view in the last minute");
}

// ------------------------------------------------------------------------------------------------- status

function showLegend() {
  if ($("legend").children.length) return;
  for (const emotion of [...EMOTIONS, "uncertain"]) {
    $("legend").append(element("li", {}, element("span", { className: `swatch fill-${emotion}` }), word(emotion)));
  }
}

function sum(values) {
  return Object.values(values).reduce((a, b) => a + b, 0);
}

function reasons(dropped) {
  const words = Object.entries(dropped).map(([reason, count]) => `${reason} ${count}`);
  return words.length ? `${sum(dropped)} (${words.join(", ")})` : "0";
}

function balance(source) {
  return `${source.name}: captured ${source.captured} = ok ${source.ok} + dropped ${reasons(source.dropped)} + ` +
    `failed ${source.failed}`;
}

function connection(text, warn = false) {
  const line = $("connection");
  if (line.textContent !== text) line.textContent = text;
  line.classList.toggle("warn", warn);
}

function ms(value) {
  return value === null ? "–" : `${Math.round(value)} ms`;
}

function updateStatus() {
  const named = (state) => status.processes.filter((process) => process.state === state).map((process) => process.name);
  const away = named("away"), silent = named("silent");
  if (status.state === "finished") {
    finished = true;
    releaseCamera();
    connection("The run is over");
    $("figures").textContent = status.sources.map(balance).join("   ");
  } else {
    if (paused) connection("Paused");
    else if (away.length) connection(`${away.join(", ")} is being started again`, true);
    else if (silent.length) connection(`${silent.join(", ")} does not answer`, true);
    else if (status.state === "starting") connection("The run is starting…");
    else if (status.state === "stopping") connection("The run is ending…");
    else connection(tiles.size ? "Live" : "Ready");
    const parts = shownSources().filter((source) => !source.ended).map((source) => {
      const name = several() ? `${title(source.name)}: ` : "";
      return `${name}${source.fps.toFixed(1)} frames/s · latency ${ms(source.latency_ms.p50)} ` +
        `(p95 ${ms(source.latency_ms.p95)}) · dropped ${reasons(source.dropped)}` +
        (source.failed ? ` · failed ${source.failed}` : "");
    });
    if (parts.length && status.mean_batch) parts.push(`${status.mean_batch.toFixed(1)} faces a batch`);
    $("figures").textContent = parts.join(" · ");
  }
  $("figures").title = $("figures").textContent;
  updateDialog();
}

function row(cells) {
  return element("tr", {}, ...cells.map((text) => element("td", { textContent: text })));
}

function updateDialog() {
  if (!$("dialog").open) return;
  $("sources").replaceChildren(...status.sources.map((source) => row([
    source.name, source.fps.toFixed(1), ms(source.latency_ms.p50), ms(source.latency_ms.p95), source.captured,
    source.ok, reasons(source.dropped), source.failed, source.error || (source.ended ? "ended" : source.kind),
  ])));
  const words = { running: "running", silent: "does not answer", away: "is being started again", ended: "ended" };
  $("processes").replaceChildren(...status.processes.map((process) => {
    const made = row([process.name, words[process.state], process.restarts]);
    if (process.state === "away" || process.state === "silent") made.children[1].className = "warn";
    return made;
  }));
}

// --------------------------------------------------------------------------------------------- connection

async function connect() {
  if (!await allowed()) return;
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/live`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => (typeof data === "string" ? onText(JSON.parse(data)) : onFrame(data));
  socket.onopen = () => {
    attempts = 0;
    askForPlace();
  };
  socket.onclose = () => {
    for (const tile of tiles.values()) tile.asked = false;
    camera.credits = 0;
    camera.state = "off";
    if (!finished) connection("Connection lost; trying again…", true);
    connectLater();
  };
}

function connectLater() {
  attempts += 1;
  setTimeout(connect, finished ? 5000 : Math.min(4000, 250 * 2 ** attempts));
}

function onText(message) {
  if (message.type === "status") onStatus(message);
  else if (message.type === "camera") onCameraState(message.state);
  else if (message.type === "picture") {
    camera.credits += 1;
    sendPicture();
  }
}

function onStatus(next) {
  if (finished && next.state !== "finished") { // another run is served here now
    finished = false;
    faces.clear();
    $("faces").replaceChildren();
  }
  status = next;
  setPressed();
  showLegend();
  updateTiles();
  updateStatus();
}

function onFrame(data) {
  const length = new DataView(data).getUint32(0, true);
  const record = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const jpeg = new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" });
  tiles.get(record.source)?.take(record, ...record.size, jpeg);
}

/** Whether this browser may see the run; asks for the token if it may not. False: tried again later. */
async function allowed() {
  let answer;
  try {
    answer = await fetch("/api/status");
  } catch {
    connectLater();
    return false;
  }
  if (answer.status !== 401) return true;
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  history.replaceState(null, "", location.pathname); // it is not to stay in the address
  if (token && await login(token)) return true;
  connection("A token is needed", true);
  if (!$("login").open) $("login").showModal();
  return false;
}

async function login(token) {
  const answer = await fetch("/api/login", { method: "POST", body: token });
  $("wrong").textContent = answer.ok ? "" : await answer.text();
  return answer.ok;
}

async function enter(event) {
  event.preventDefault();
  if (!await login($("token").value)) return $("token").select();
  $("login").close();
  connect();
}

// ------------------------------------------------------------------------------------------------- camera

const video = $("own");
const still = document.createElement("canvas");

const WITHOUT_PLACE = new Set(["off", "idle", "wait", "full"]);

const TROUBLES = {
  NotAllowedError: "This page was not allowed to use the camera. Allow it in the browser's address bar (on a phone: " +
    "also in the system's settings), then press the button again.",
  NotFoundError: "No camera was found. Plug one in, then press the button again.",
  OverconstrainedError: "No camera was found. Plug one in, then press the button again.",
  NotReadableError: "The camera can't be read: another program may be using it. Close that, then press the button again.",
  insecure: "Browsers give cameras to https pages alone, and to http://localhost on the machine itself. Ask whoever " +
    "runs this page for its https address.",
  ended: "The camera was taken away. Press the button to use it again.",
};

function trouble(text) {
  if ($("trouble").textContent !== text) $("trouble").textContent = text;
  updateInvitation();
}

async function useCamera() {
  if (camera.on) return;
  camera.on = true;
  trouble("");
  setPressed();
  if (!window.isSecureContext || !navigator.mediaDevices) return stopCamera(TROUBLES.insecure);
  const { width, height, fps } = status.camera;
  try {
    camera.stream = await navigator.mediaDevices.getUserMedia({
      audio: false,
      video: {
        width: { ideal: width || 640 }, height: { ideal: height || 480 }, frameRate: { ideal: fps || 30 }, facingMode: "user",
      },
    });
  } catch (error) {
    return stopCamera(TROUBLES[error.name] ?? `The camera does not start: ${error.message || error.name}.`);
  }
  if (!camera.on) return stopCamera(""); // turned off while the browser asked
  const [track] = camera.stream.getVideoTracks();
  camera.facing = track.getSettings().facingMode ?? "user";
  track.addEventListener("ended", () => stopCamera(TROUBLES.ended));
  camera.key ||= crypto.randomUUID();
  video.srcObject = camera.stream;
  await video.play().catch(() => {});
  if (document.activeElement === document.body) $("pictures").focus(); // the button that was pressed is gone
  askForPlace();
}

/** Give the camera back to the browser, whose light goes out. */
function releaseCamera() {
  camera.on = false;
  for (const track of camera.stream?.getTracks() ?? []) track.stop();
  camera.stream = video.srcObject = null;
  camera.busy = false; // no frame of a stopped camera comes that would end it
  setPressed();
}

function stopCamera(text) {
  if (camera.stream !== null && socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ camera: "off" }));
  releaseCamera();
  trouble(text);
}

/** Ask for a place; on a new connection too, where the server knows this page by its key. */
function askForPlace() {
  if (camera.stream === null || socket?.readyState !== WebSocket.OPEN || resting()) return;
  socket.send(JSON.stringify({ camera: "on", key: camera.key }));
}

/** Nobody looks: nothing is sent. */
function resting() {
  return paused || document.hidden;
}

function onCameraState(state) {
  camera.state = state;
  if (state === "idle") askForPlace();
  updateTiles();
  sendPicture(); // a credit of before may be left
}

function wake() {
  if (resting()) return;
  if (camera.state === "idle" || camera.state === "off") askForPlace();
  sendPicture();
}

/** Send what the camera sees now, if the server has asked for it. */
function sendPicture() {
  if (camera.credits <= 0 || camera.busy || camera.stream === null || WITHOUT_PLACE.has(camera.state) || resting()) return;
  camera.busy = true;
  const stream = camera.stream;
  let made = false;
  const make = () => {
    if (made || stream !== camera.stream) return; // turned off meanwhile, and on again perhaps
    made = true;
    const scale = Math.min(1, Math.min(1280, Math.max(status.camera.width, status.camera.height) || 640) /
      Math.max(video.videoWidth, video.videoHeight, 1));
    still.width = Math.round(video.videoWidth * scale);
    still.height = Math.round(video.videoHeight * scale);
    if (!still.width || !still.height) return again(stream);
    still.getContext("2d", { alpha: false }).drawImage(video, 0, 0, still.width, still.height);
    still.toBlob((jpeg) => {
      if (jpeg !== null && camera.credits > 0 && stream === camera.stream && socket?.readyState === WebSocket.OPEN) {
        camera.credits -= 1;
        socket.send(jpeg);
      }
      again(stream);
    }, "image/jpeg", 0.8);
  };
  video.requestVideoFrameCallback?.(make);
  setTimeout(make, video.requestVideoFrameCallback ? 250 : 33); // some browsers skip frames that nobody sees
}

function again(stream) {
  if (stream !== camera.stream) return;
  camera.busy = false;
  sendPicture();
}

/** The offer of the camera, or what is in its way; above other pictures no more than a line. */
function updateInvitation() {
  if (!status.camera) return;
  const most = status.camera.most;
  const own = tiles.has(camera.state);
  const waits = {
    full: most === 1 ? "Another visitor's camera is on, and there is one place. Yours is next."
      : `All ${most} places are taken. You get the next one that is free.`,
    wait: "A place is being made ready…",
    idle: "Your camera is resting, since nobody looked at this page.",
    off: "The camera is starting…",
  };
  $("camera").hidden = false;
  $("stored").hidden = false;
  $("stored").textContent = status.stored;
  $("privacy").textContent = "Your pictures go to this server and to no other; other visitors don't see them. " + status.stored;
  const text = $("trouble").textContent;
  $("invitation").hidden = status.state === "finished" || (tiles.size > 0 && (own || !camera.on) && !text);
  $("invitation").classList.toggle("bar", tiles.size > 0);
  $("offer").textContent = camera.on ? waits[camera.state] ?? "" : "See what this page reads in your face.";
  $("offer").hidden = Boolean(text);
  $("use").hidden = camera.on;
  const over = status.state === "finished" && tiles.size === 0;
  $("waiting").textContent = over ? "The run is over. When it is started again, this page goes on by itself."
    : "Waiting for the first picture…";
  $("waiting").hidden = !over && ($("waiting").hidden || tiles.size === 0 || !$("invitation").hidden);
}

// ------------------------------------------------------------------------------------------------ buttons

function setPressed() {
  for (const name of ["boxes", "labels", "names", "blur"]) $(name).setAttribute("aria-pressed", settings[name]);
  $("mirror").setAttribute("aria-pressed", mirrored(camera.state));
  $("camera").setAttribute("aria-pressed", camera.on);
  $("pause").setAttribute("aria-pressed", paused);
}

function toggle(name) {
  settings[name] = name === "mirror" ? !mirrored(camera.state) : !settings[name];
  localStorage.setItem("settings", JSON.stringify(settings));
  setPressed();
  redraw();
}

function pause() {
  paused = !paused;
  setPressed();
  updateStatus();
  for (const tile of tiles.values()) tile.ask();
  wake();
}

/** Save what is seen, at the size of the sources. */
function snapshot() {
  const frames = [...tiles.values()].map((tile) => tile.frame).filter((frame) => frame !== null);
  if (!frames.length) return;
  const columns = Math.ceil(Math.sqrt(frames.length)), rows = Math.ceil(frames.length / columns);
  const width = Math.max(...frames.map((frame) => frame.width));
  const height = Math.max(...frames.map((frame) => frame.height));
  const canvas = element("canvas", { width: columns * width, height: rows * height });
  const context = canvas.getContext("2d");
  frames.forEach((frame, number) => {
    const left = (number % columns) * width, top = Math.floor(number / columns) * height;
    drawFrame(context, frame, left, top, 1, Math.max(1, Math.min(frame.width, frame.height) / 480));
  });
  canvas.toBlob((png) => {
    const name = `emotions-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.png`;
    const link = element("a", { href: URL.createObjectURL(png), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }, "image/png");
}

function fullscreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else $("pictures").requestFullscreen?.();
}

function details() {
  if ($("dialog").open) return $("dialog").close();
  $("dialog").showModal();
  updateDialog();
}

const actions = {
  pause, snapshot, fullscreen, details,
  camera: () => (camera.on ? stopCamera("") : useCamera()),
  boxes: () => toggle("boxes"), labels: () => toggle("labels"), names: () => toggle("names"),
  mirror: () => toggle("mirror"), blur: () => toggle("blur"),
};
const keys = {
  " ": "pause", c: "camera", b: "boxes", l: "labels", n: "names", m: "mirror", u: "blur", s: "snapshot", f: "fullscreen", i: "details",
};

for (const [name, action] of Object.entries(actions)) $(name).addEventListener("click", action);
$("use").addEventListener("click", useCamera);
document.addEventListener("visibilitychange", wake);
$("close").addEventListener("click", () => $("dialog").close());
$("form").addEventListener("submit", enter);
$("login").addEventListener("cancel", (event) => event.preventDefault());
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("login").open) return;
  const onButton = event.target instanceof HTMLButtonElement && event.key === " "; // which presses that button
  const name = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!name || onButton || $(name).hidden || ($("dialog").open && name !== "details")) return;
  event.preventDefault();
  actions[name]();
});
new ResizeObserver(redraw).observe($("pictures"));

setPressed();
setInterval(updatePanel, PANEL_MS);
connect();
