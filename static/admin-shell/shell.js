"use strict";
// Alpine's CSP build evaluates no JavaScript and sees no globals, so what unfold's templates
// call by name is registered here. Same behaviour, no 'unsafe-eval'.
document.addEventListener("alpine:init", () => {
  const remembered = {
    getItem: (name) => window.localStorage.getItem(name),
    setItem: (name, value) => window.localStorage.setItem(name, value),
  };
  Alpine.data("theme", (chosen) => window.theme(chosen));
  Alpine.data("searchForm", () => window.searchForm());
  Alpine.data("searchDropdown", () => window.searchDropdown());
  Alpine.data("searchCommand", () => window.searchCommand());
  Alpine.data("shell", (firstTab) => ({
    activeTab: firstTab ? window.getCurrentTab() || firstTab : "",
    sidebarMobileOpen: false,
    sidebarDesktopOpen: remembered.getItem("sidebarDesktopOpen") !== "0",
    localStorage: remembered,
    window: {
      location: { pathname: window.location.pathname, search: window.location.search },
    },
    init() {
      this.$watch("sidebarDesktopOpen", (open) =>
        remembered.setItem("sidebarDesktopOpen", open ? "1" : "0"),
      );
    },
  }));
});
