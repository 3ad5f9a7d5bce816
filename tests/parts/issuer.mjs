// A certified OIDC server as the tests' issuer: JWT access tokens for client credentials, with a groups claim.
//
//   node issuer.mjs PORT CHAIN KEY JWKS
//
// JWKS is a file with private keys; the server signs with the first. Rotation is a restart with another file.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { pathToFileURL } from "node:url";

const [port, chain, key, jwks] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${process.env.STAUNCH_TOOLS}/package.json`));
const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")).href);

const issuer = `https://127.0.0.1:${port}`;
// The client's name says what its tokens are like: <subject>.<group>.<audience>.<seconds>
const known = JSON.parse(process.env.CLIENTS);
const audience = (client) => client.clientId.split(".")[2];
const provider = new Provider(issuer, {
  jwks: { keys: JSON.parse(readFileSync(jwks)).keys },
  clients: known.map((id) => ({
    client_id: id,
    client_secret: "secret",
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
    id_token_signed_response_alg: "ES256",
  })),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: (_ctx, client) => `urn:${audience(client)}`,
      getResourceServerInfo: (_ctx, _resource, client) => ({
        audience: audience(client),
        scope: "use",
        accessTokenFormat: "jwt",
        accessTokenTTL: Number(client.clientId.split(".")[3]),
        jwt: { sign: { alg: "ES256" } },
      }),
      useGrantedResource: () => true,
    },
  },
  extraTokenClaims: (_ctx, token) => ({ groups: [token.client.clientId.split(".")[1]] }),
});
provider.proxy = false;
createServer({ cert: readFileSync(chain), key: readFileSync(key) }, provider.callback()).listen(
  Number(port),
  "127.0.0.1",
);
