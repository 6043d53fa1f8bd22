// Asks this example's own server for a token (never put an API key into a page), then shows the widget.
const mint = () => fetch("/token", { method: "POST" }).then((answer) => answer.json());
mint().then((session) => {
  const script = document.createElement("script");
  script.src = `${session.apiUrl}/static/widget/embed.js`;
  script.onload = () => window.StripeMeterWidget.initStripeMeterWidget("usage-widget", {
    apiUrl: session.apiUrl, token: session.token, theme: "auto", locale: "en", renewToken: mint,
  });
  document.head.append(script);
});
