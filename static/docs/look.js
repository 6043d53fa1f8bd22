"use strict";
// Swagger UI has a dark look under this class; the system's choice decides, and may change.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const look = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", look);
look();
