"use strict";
// Keys typed into the page stay in memory: nothing is kept in the browser's storage.
const target = document.getElementById("swagger-ui");
SwaggerUIBundle({
  url: target.dataset.url,
  domNode: target,
  deepLinking: true,
  persistAuthorization: false,
  validatorUrl: null,
  tryItOutEnabled: true,
});
