// Holds custom resources against their operators' own schemas, as @kubernetes-models has them, below
// the folder that is named. A JSON list of objects comes in on stdin; a line for each fault goes out.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const PACKAGES = {
  "monitoring.coreos.com": "prometheus-operator",
  "keda.sh": "keda",
  "gateway.networking.k8s.io": "gateway-api",
};
const folder = path.join(process.argv[2], "node_modules", "@kubernetes-models");

for (const object of JSON.parse(fs.readFileSync(0, "utf8"))) {
  const file = path.join(folder, PACKAGES[object.apiVersion.split("/")[0]], object.apiVersion);
  const kinds = await import(pathToFileURL(path.join(file, `${object.kind}.js`)));
  try {
    new kinds[object.kind](object).validate();
  } catch (error) {
    console.log(`${object.kind} ${object.metadata.name}: ${error.message}`);
  }
}
