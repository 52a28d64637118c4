// The API's reference: Swagger UI over our own document, with the session's right to change.

const place = document.getElementById("reference");
const { csrf } = place.dataset;

// Swagger UI takes a document of OpenAPI 3.1 apart before it shows anything: ten times the work of
// 3.0, whose parts it looks at when they are unfolded. What we use of 3.1 has a form in 3.0.
function as30(node) {
  if (Array.isArray(node)) return node.map(as30);
  if (node === null || typeof node !== "object") return node;
  const { anyOf, examples, ...rest } = node;
  const found = Object.fromEntries(Object.entries(rest).map(([name, value]) => [name, as30(value)]));
  if (Array.isArray(examples) && examples.length) found.example = examples[0];
  else if (examples !== undefined) found.examples = as30(examples);
  if (!Array.isArray(anyOf)) return found;
  const some = anyOf.filter((one) => one.type !== "null").map(as30);
  if (some.length < anyOf.length) found.nullable = true;
  if (some.length > 1) return { ...found, anyOf: some };
  return some[0].$ref ? { ...found, allOf: some } : { ...some[0], ...found };
}

async function show() {
  const answer = await fetch("/api/v1/openapi.json", { credentials: "same-origin" });
  if (!answer.ok) throw new Error(`answered ${answer.status}`);
  window.SwaggerUIBundle({
    dom_id: "#reference",
    spec: { ...as30(await answer.json()), openapi: "3.0.3" },
    deepLinking: true,
    docExpansion: "none",
    filter: true,
    requestSnippetsEnabled: true,
    tryItOutEnabled: true,
    validatorUrl: null,
    requestInterceptor(request) {
      // A token that is given under "Authorize" stands for itself. Else the session is sent, and
      // the command beside it is one that a shell can run once a token is put in.
      if (!request.headers.Authorization) {
        request.userFetch = (url, options) =>
          fetch(url, { ...options, headers: { ...options.headers, "x-csrf-token": csrf } });
        request.curlOptions = ["-H", "Authorization: Bearer <your token>"];
      }
      return request;
    },
  });
}

show().catch((error) => {
  place.textContent = `The document of the API did not come (${error.message}): load the page again.`;
});
