// Inside the frame: refreshes the content, reports its height, asks for a new token in time.
(() => {
  const main = document.getElementById("widget");
  const content = document.getElementById("content");
  const notice = document.getElementById("notice");
  const origins = main.dataset.origins.split(" ").filter(Boolean);
  let token = main.dataset.token;
  let expires = Number(main.dataset.expires);
  // The token was in the address once, to choose who may frame this page; it must not stay there.
  history.replaceState(null, "", location.pathname);
  main.removeAttribute("data-token");

  const tell = (message) => {
    if (window.parent === window) return;
    for (const origin of origins) window.parent.postMessage({ source: "stripemeter", ...message }, origin);
  };
  const height = () => tell({ type: "height", height: Math.ceil(document.documentElement.getBoundingClientRect().height) });
  const say = (text) => { notice.textContent = text; notice.hidden = !text; height(); };
  const query = (extra) => new URLSearchParams({ locale: main.dataset.locale, compact: main.dataset.compact, ...extra });
  const get = (path, extra = {}) => fetch(`/widget/usage/${path}?${query(extra)}`, {
    headers: { Authorization: `Bearer ${token}` }, cache: "no-store", credentials: "omit",
  });

  const opened = () => new Set([...content.querySelectorAll("details[open][data-events]")].map((d) => d.dataset.events));
  async function refresh() {
    if (document.hidden) return;
    try {
      const answer = await get("body");
      if (answer.status === 401) { tell({ type: "renew" }); say(main.dataset.ended); return; }
      if (!answer.ok) throw new Error(String(answer.status));
      const open = opened();
      content.innerHTML = await answer.text();
      for (const details of content.querySelectorAll("details[data-events]")) details.open = open.has(details.dataset.events);
      say("");
    } catch {
      say(main.dataset.offline);
    }
  }
  setInterval(refresh, Number(main.dataset.refresh) * 1000);
  setInterval(() => { if (expires - Date.now() / 1000 < 60) tell({ type: "renew" }); }, 10000);

  window.addEventListener("message", (event) => {
    if (event.source !== window.parent || !origins.includes(event.origin)) return;
    const message = event.data;
    if (typeof message !== "object" || message === null || message.source !== "stripemeter-host") return;
    if (message.type === "token" && typeof message.token === "string" && message.token.length < 4096) {
      token = message.token;
      expires = Number.isFinite(message.expires) ? message.expires : Date.now() / 1000 + 300;
      refresh();
    }
  });
  content.addEventListener("toggle", async (event) => {
    const details = event.target;
    if (!details.open || !details.dataset.events) { height(); return; }
    const answer = await get("events", { metric: details.dataset.events }).catch(() => null);
    if (answer && answer.ok) details.querySelector("[data-list]").innerHTML = await answer.text();
    height();
  }, true);
  content.addEventListener("click", async (event) => {
    const more = event.target.dataset.more;
    if (more) {
      const answer = await get("events", { metric: event.target.dataset.metric, cursor: more }).catch(() => null);
      if (!answer || !answer.ok) { say(main.dataset.offline); return; }
      const place = event.target.parentElement;
      place.insertAdjacentHTML("beforebegin", await answer.text());
      place.remove();
      height();
      return;
    }
    const name = event.target.dataset.download;
    if (!name) return;
    const answer = await get("events.csv", { metric: name }).catch(() => null);
    if (!answer || !answer.ok) { say(main.dataset.offline); return; }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = `${name}.csv`;
    link.click();
    URL.revokeObjectURL(link.href);
  });
  new ResizeObserver(height).observe(document.documentElement);
  height();
})();
