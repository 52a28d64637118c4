// The API's reference: Swagger UI over our own document, with the session's right to change.

const place = document.getElementById("reference");
const { csrf } = place.dataset;

window.SwaggerUIBundle({
  dom_id: "#reference",
  url: "/api/v1/openapi.json",
  deepLinking: true,
  docExpansion: "none",
  filter: true,
  requestSnippetsEnabled: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  requestInterceptor(request) {
    // A token that is given under "Authorize" stands for itself.
    if (!request.headers.Authorization) request.headers["x-csrf-token"] = csrf;
    return request;
  },
});
