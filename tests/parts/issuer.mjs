// A certified OIDC server as the tests' issuer: JWT access tokens with a groups claim, for client credentials and for
// people who log in through forms that take any name and password.
//
//   node issuer.mjs PORT CHAIN KEY JWKS
//
// JWKS is a file with private keys; the server signs with the first. Rotation is a restart with another file. Each token
// that is granted is a line of the output: "granted", grant type, client.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { pathToFileURL } from "node:url";

const [port, chain, key, jwks] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${process.env.STAUNCH_TOOLS}/package.json`));
const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")).href);

const issuer = process.env.ISSUER ?? `https://127.0.0.1:${port}`;
// The client's name says what its tokens are like: <subject>.<group>.<audience>.<seconds>[.<seconds of a device code>]; a name
// without dots stands for the usual.
const known = JSON.parse(process.env.CLIENTS);
// Programs of people: public clients, as RFC 8252 has them. <subject> is whatever name is typed in.
const native = JSON.parse(process.env.NATIVE ?? "[]");
// Websites: clients with a secret and one redirect URI.
const web = JSON.parse(process.env.WEB ?? "[]");
const group = (client) => client.clientId.split(".")[1] ?? "agents";
const audience = (client) => client.clientId.split(".")[2] ?? "staunch";
const provider = new Provider(issuer, {
  jwks: { keys: JSON.parse(readFileSync(jwks)).keys },
  clients: known
    .map((id) => ({
      client_id: id,
      client_secret: "secret",
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
      id_token_signed_response_alg: "ES256",
    }))
    .concat(
      native.map((id) => ({
        client_id: id,
        application_type: "native",
        token_endpoint_auth_method: "none",
        grant_types: ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        redirect_uris: ["http://127.0.0.1/callback"],
        response_types: ["code"],
        id_token_signed_response_alg: "ES256",
      })),
      web.map(({ id, redirect }) => ({
        client_id: id,
        client_secret: "web secret:/",
        token_endpoint_auth_method: "client_secret_basic",
        grant_types: ["authorization_code"],
        redirect_uris: [redirect],
        response_types: ["code"],
        id_token_signed_response_alg: "ES256",
      })),
    ),
  claims: { openid: ["sub", "groups"] },
  conformIdTokenClaims: false,
  findAccount: (ctx, name) => ({
    accountId: name,
    claims: () => ({ sub: name, groups: [group(ctx.oidc.client)] }),
  }),
  ttl: { DeviceCode: (_ctx, _code, client) => Number(client.clientId.split(".")[4] ?? 600) },
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    devInteractions: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: (_ctx, client) => `urn:${audience(client)}`,
      getResourceServerInfo: (_ctx, _resource, client) => ({
        audience: audience(client),
        scope: "use",
        accessTokenFormat: "jwt",
        accessTokenTTL: Number(client.clientId.split(".")[3] ?? 600),
        jwt: { sign: { alg: "ES256" } },
      }),
      useGrantedResource: () => true,
    },
  },
  extraTokenClaims: (_ctx, token) => ({ groups: [group(token.client)] }),
});
provider.proxy = false;
provider.on("grant.success", (ctx) => {
  console.log("granted", ctx.oidc.params.grant_type, ctx.oidc.client.clientId);
});
createServer({ cert: readFileSync(chain), key: readFileSync(key) }, provider.callback()).listen(
  Number(port),
  "127.0.0.1",
);
