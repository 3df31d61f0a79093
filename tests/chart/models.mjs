// Checks objects of custom kinds by the schemas of their projects: models.mjs NODE_MODULES < JSON list.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

// By path: the packages lie in the tests' cache, not above this file.
const load = (path) => import(pathToFileURL(join(process.argv[2], "@kubernetes-models", path, "index.js")));
const models = {
  "gateway.networking.k8s.io/v1": await load("gateway-api/gateway.networking.k8s.io/v1"),
  "monitoring.coreos.com/v1": await load("prometheus-operator/monitoring.coreos.com/v1"),
};
let faults = 0;
for (const object of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    new models[object.apiVersion][object.kind](object).validate();
    console.log(`ok ${object.kind}`);
  } catch (error) {
    faults += 1;
    console.log(`${object.kind} ${object.metadata?.name}: ${error.message}`);
  }
}
process.exit(faults ? 1 : 0);
