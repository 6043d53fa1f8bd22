/* StripeMeter widget loader. One function, no dependency:
 *   StripeMeterWidget.initStripeMeterWidget("usage-widget", {apiUrl, token, theme, compact, locale, renewToken})
 * renewToken() may return a promise of {token, expiresAt} (as POST /v1/widget/sessions answers) or of a token. */
(function (root) {
  "use strict";
  function init(container, options) {
    var element = typeof container === "string" ? document.getElementById(container) : container;
    if (!element) throw new Error("StripeMeterWidget: there is no element " + container);
    if (!options || !options.apiUrl || !options.token) throw new Error("StripeMeterWidget: apiUrl and token are required");
    var api = new URL(options.apiUrl, location.href);
    var frame = document.createElement("iframe");
    var address = new URL("/widget/embed", api.origin);
    address.searchParams.set("token", options.token);
    address.searchParams.set("theme", options.theme || "auto");
    address.searchParams.set("locale", options.locale || document.documentElement.lang || "en");
    address.searchParams.set("compact", options.compact ? "1" : "0");
    frame.src = address.href;
    frame.title = options.title || "Usage";
    frame.referrerPolicy = "no-referrer";
    frame.setAttribute("sandbox", "allow-scripts allow-same-origin allow-downloads");
    frame.style.cssText = "width:100%;border:0;display:block;height:320px";
    var renewing = false;

    function renew() {
      if (renewing || typeof options.renewToken !== "function") return;
      renewing = true;
      Promise.resolve(options.renewToken()).then(function (answer) {
        var token = typeof answer === "string" ? answer : answer && answer.token;
        if (!token) return;
        var expires = answer.expiresAt ? Date.parse(answer.expiresAt) / 1000 : NaN;
        frame.contentWindow.postMessage({ source: "stripemeter-host", type: "token", token: token, expires: expires }, api.origin);
      }).catch(function () { /* the frame says that its view has ended */ }).then(function () { renewing = false; });
    }
    function receive(event) {
      if (event.origin !== api.origin || event.source !== frame.contentWindow) return;
      var message = event.data;
      if (!message || message.source !== "stripemeter") return;
      if (message.type === "height" && message.height > 0 && message.height < 20000) frame.style.height = message.height + "px";
      if (message.type === "renew") renew();
    }
    window.addEventListener("message", receive);
    element.replaceChildren(frame);
    return {
      destroy: function () { window.removeEventListener("message", receive); frame.remove(); },
      renew: renew,
    };
  }
  var exported = { initStripeMeterWidget: init, initStripemeterWidget: init };
  root.StripeMeterWidget = exported;
  root.StripemeterWidget = exported;
})(window);
