// Text from a model, as it is generated: node generate.js HOST:PORT MODEL PROMPT. PALIMPSEST_TOKEN is sent where it is set.
const path = require("path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const protos = path.resolve(__dirname, "..", "..");
const options = { includeDirs: [protos, path.join(protos, "third_party")], keepCase: true, longs: String, enums: String };
const load = (...files) => loader.loadSync(files, options);

const { decoding } = grpc.loadPackageDefinition(load("palimpsest/api/decoding/v1/decoding.proto")).palimpsest.api;
const details = load("google/rpc/status.proto", "google/rpc/error_details.proto");

const [target, model, prompt] = process.argv.slice(2);
const metadata = new grpc.Metadata();
if (process.env.PALIMPSEST_TOKEN) metadata.set("authorization", `Bearer ${process.env.PALIMPSEST_TOKEN}`);
const client = new decoding.v1.DecodingService(target, grpc.credentials.createInsecure());

// The stable reason of an error, from the details that travel beside it.
function reasonOf(error) {
  const [bytes] = error.metadata.get("grpc-status-details-bin");
  if (!bytes) return "";
  const packed = details["google.rpc.Status"].deserialize(bytes).details;
  const found = packed.find((detail) => detail.type_url.endsWith("google.rpc.ErrorInfo"));
  return found ? details["google.rpc.ErrorInfo"].deserialize(found.value).reason : "";
}

const stream = client.Generate({ model, prompt, max_tokens: 16 }, metadata);
stream.on("data", (event) => {
  if (event.delta) process.stdout.write(event.delta.text);
  if (event.finished) process.stdout.write("\n");
});
stream.on("error", (error) => {
  console.error(`${reasonOf(error)}: ${error.details}`);
  process.exitCode = 1;
});
