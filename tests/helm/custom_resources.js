// Holds custom resources against their operators' own schemas, as @kubernetes-models has them. A JSON
// list of objects comes in on stdin; a line for each fault goes out.
const fs = require("fs");
const path = require("path");

const PACKAGES = {
  "monitoring.coreos.com": "prometheus-operator",
  "keda.sh": "keda",
  "gateway.networking.k8s.io": "gateway-api",
};

for (const object of JSON.parse(fs.readFileSync(0, "utf8"))) {
  const group = object.apiVersion.split("/")[0];
  const file = path.join("@kubernetes-models", PACKAGES[group], object.apiVersion, object.kind);
  const kinds = require(require.resolve(file, { paths: [process.argv[2]] }));
  try {
    new kinds[object.kind](object).validate();
  } catch (error) {
    console.log(`${object.kind} ${object.metadata.name}: ${error.message}`);
  }
}
