// An OpenID-certified authorisation server for tests: oidc-provider with pages of our own.
//
//   node server.mjs '{"port": 1, "tls": {"key": "…", "cert": "…"}, "clients": [...], …}'
//
// Every user name exists; logging in takes no password. What a test changes while it runs comes
// by POST /test/settings: {"accessTokenTTL": seconds, "claims": {user: {more claims}}}.
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const options = JSON.parse(process.argv[2]);
const installed = createRequire(`${options.modules}/`);
const load = (name) => import(pathToFileURL(installed.resolve(name)));
const { Provider, interactionPolicy } = await load('oidc-provider');
const { SignJWT, importSPKI, jwtVerify } = await load('jose');

const issuer = `https://localhost:${options.port}${options.path}`;
const settings = { accessTokenTTL: 3600, claims: {}, ...options.settings };

const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const jwk = { ...privateKey.export({ format: 'jwk' }), kid: 'test', alg: 'RS256', use: 'sig' };
writeFileSync(options.publicKey, publicKey.export({ type: 'spki', format: 'pem' }));

// A token is as old as a minute when it is made, as Entra's are five. Dovecot reads the clock that
// the kernel moves on every few milliseconds: to it, a token of this second may come from the next.
const backdated = (seconds) => seconds - 60;

const claimsOf = (id) => ({
  sub: id, email: id, email_verified: true, preferred_username: id, oid: id,
  ...settings.claims[id],
});

const policy = interactionPolicy.base();
policy.add(new interactionPolicy.Prompt({ name: 'select_account', requestable: true }), 0);

const provider = new Provider(issuer, {
  clients: options.clients,
  jwks: { keys: [jwk] },
  claims: {
    openid: ['sub', 'oid', 'groups', 'realm_access', 'https://acme.example/groups'],
    email: ['email', 'email_verified'], profile: ['preferred_username'],
  },
  conformIdTokenClaims: false,
  scopes: ['openid', 'offline_access'],
  pkce: { required: () => true },
  rotateRefreshToken: true,
  issueRefreshToken: async (ctx, client) => client.grantTypeAllowed('refresh_token'),
  expiresWithSession: async () => false,
  findAccount: async (ctx, id) => ({ accountId: id, claims: async () => claimsOf(id) }),
  interactions: { policy, url: (ctx, interaction) => `${options.path}/interaction/${interaction.uid}` },
  ttl: {
    AccessToken: () => settings.accessTokenTTL,
    ClientCredentials: () => settings.accessTokenTTL,
    RefreshToken: 86400, Session: 86400, Grant: 86400, Interaction: 600, IdToken: 3600,
  },
  // Dovecot 2.3 knows no other type of token than JWT (RFC 9068 says at+jwt).
  formats: {
    customizers: {
      jwt: async (ctx, token, jwt) => {
        jwt.header = { ...jwt.header, typ: 'JWT' };
        jwt.payload.iat = backdated(jwt.payload.iat);
      },
    },
  },
  extraTokenClaims: async (ctx, token) => (token.accountId
    ? { ...claimsOf(token.accountId), scp: token.scope }
    : { roles: options.roles ?? ['Mail.ReadWrite'], email: `${token.clientId}@apps.example` }),
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: async (ctx, client, oneOf) => oneOf ?? 'urn:posthouse:mail',
      useGrantedResource: async () => true,
      getResourceServerInfo: async () => ({
        scope: options.scopes.join(' '),
        audience: 'mail',
        accessTokenTTL: settings.accessTokenTTL,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
});

provider.on('server_error', (ctx, error) => console.error(error));
provider.on('grant.error', (ctx, error) => console.error(error.message, error.error_detail));

const page = (title, body) => `<!doctype html><title>${title}</title><h1>${title}</h1>${body}`;
const escaped = (text) => String(text ?? '').replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
const body = async (request) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
};

async function showInteraction(request, response) {
  const { uid, prompt, params } = await provider.interactionDetails(request, response);
  const action = `${options.path}/interaction/${uid}`;
  response.setHeader('content-type', 'text/html; charset=utf-8');
  if (prompt.name === 'consent') {
    response.end(page('Consent', `<form method="post" action="${action}">
      <p>${escaped(params.scope)}</p>
      <button name="answer" value="allow">Allow</button>
      <button name="answer" value="deny">Deny</button></form>`));
  } else {
    response.end(page('Log in', `<form method="post" action="${action}">
      <input name="login" value="${escaped(params.login_hint)}">
      <button name="answer" value="login">Log in</button></form>`));
  }
}

async function answerInteraction(request, response) {
  const details = await provider.interactionDetails(request, response);
  const { prompt: { name, details: missing }, params, session } = details;
  const form = new URLSearchParams(await body(request));
  let result;
  if (form.get('answer') === 'deny') {
    result = { error: 'access_denied', error_description: 'the user denied the consent' };
  } else if (name === 'consent') {
    const grant = details.grantId
      ? await provider.Grant.find(details.grantId)
      : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
    if (missing.missingOIDCScope) grant.addOIDCScope(missing.missingOIDCScope.join(' '));
    if (missing.missingOIDCClaims) grant.addOIDCClaims(missing.missingOIDCClaims);
    for (const [resource, scopes] of Object.entries(missing.missingResourceScopes ?? {})) {
      grant.addResourceScope(resource, scopes.join(' '));
    }
    result = { consent: { grantId: await grant.save() } };
  } else {
    result = { select_account: {}, login: { accountId: form.get('login') } };
  }
  await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
}

const signed = (user, scope) => new SignJWT({ ...claimsOf(user), scope })
  .setProtectedHeader({ alg: 'RS256', kid: 'test', typ: 'JWT' })
  .setIssuer(issuer).setAudience('mail').setIssuedAt(backdated(Math.floor(Date.now() / 1000)))
  .setExpirationTime(`${settings.accessTokenTTL}s`)
  .sign(privateKey);

// Google's exchange of a signed assertion (RFC 7523): the token endpoint of service accounts.
async function serviceAccount(request, response) {
  const form = new URLSearchParams(await body(request));
  const refuse = (error, description) => {
    response.statusCode = 400;
    response.end(JSON.stringify({ error, error_description: description }));
  };
  response.setHeader('content-type', 'application/json; charset=utf-8');
  if (form.get('grant_type') !== 'urn:ietf:params:oauth:grant-type:jwt-bearer') {
    return refuse('unsupported_grant_type', 'Invalid grant_type');
  }
  const account = options.serviceAccount;
  let claims;
  try {
    const key = await importSPKI(readFileSync(account.publicKey, 'utf8'), 'RS256');
    ({ payload: claims } = await jwtVerify(form.get('assertion'), key, {
      algorithms: ['RS256'], issuer: account.email, audience: 'https://oauth2.googleapis.com/token',
      requiredClaims: ['iat', 'exp', 'scope'],
    }));
  } catch (error) {
    return refuse('invalid_grant', 'Invalid JWT Signature.');
  }
  if (!account.delegates.includes(claims.sub)) {
    return refuse('unauthorized_client', 'Client is unauthorized to retrieve access tokens using '
      + 'this method, or client not authorized for any of the scopes requested.');
  }
  const token = await signed(claims.sub, claims.scope);
  return response.end(JSON.stringify({
    access_token: token, expires_in: settings.accessTokenTTL, token_type: 'Bearer',
  }));
}

const handle = provider.callback();

async function route(request, response) {
  const url = new URL(request.url, issuer);
  if (!url.pathname.startsWith(`${options.path}/`)) {
    response.statusCode = 404;
    return response.end();
  }
  const local = url.pathname.slice(options.path.length);
  if (local === '/test/settings') {
    Object.assign(settings, JSON.parse(await body(request)));
    return response.end();
  }
  if (local === '/test/token') {
    const { user, scope } = JSON.parse(await body(request));
    return response.end(await signed(user, scope));
  }
  if (local === '/service-account') return serviceAccount(request, response);
  if (local.startsWith('/interaction/')) {
    return request.method === 'POST'
      ? answerInteraction(request, response) : showInteraction(request, response);
  }
  if (local === '/auth' && !url.searchParams.get('prompt')?.includes('consent')) {
    // OpenID Connect Core 11 gives offline_access on consent only; Entra gives it by scope alone.
    url.searchParams.set('prompt', `${url.searchParams.get('prompt') ?? ''} consent`.trim());
    request.url = url.pathname + url.search;
  }
  request.originalUrl = request.url;
  request.url = request.url.slice(options.path.length);
  return handle(request, response);
}

createServer(
  { key: readFileSync(options.tls.key), cert: readFileSync(options.tls.cert) },
  (request, response) => route(request, response).catch((error) => {
    console.error(error);
    response.statusCode = 500;
    response.end(page('Error', escaped(error.message)));
  }),
).listen(options.port, '127.0.0.1');
