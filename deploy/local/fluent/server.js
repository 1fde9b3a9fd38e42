// A server of the forward protocol that keeps what it gets: one JSON line per record in a file.
//
// The library acknowledges a chunk before it hands out its records. Here a record is in the file before its acknowledgement
// leaves, as in a real server with a file buffer: whatever was acknowledged is there after a kill.
"use strict";

const fs = require("fs");
const { FluentServer } = require("@fluent-org/logger");

const ACKNOWLEDGEMENT = 0x81; // a map with one member
const LINGER_MS = 20;
const COUNT_MS = 100;

const options = JSON.parse(process.env.BLOBTIDE_LOCAL_FLUENT);

class Keeping extends FluentServer {
  constructor(settings) {
    super(settings);
    this.lines = [];
    this.count = 0;
    this.file = options.file === null ? null : fs.openSync(options.file, "a", 0o600);
  }

  handleConnection(socket) {
    const write = socket.write.bind(socket);
    socket.write = (data) => {
      if (data[0] !== ACKNOWLEDGEMENT) return write(data);
      setImmediate(() => {
        this.flush();
        write(data);
      });
      return true;
    };
    // A sign-in that fails is answered, and then the library destroys the connection: the answer has to leave first.
    const destroy = socket.destroy.bind(socket);
    socket.destroy = (error) => {
      setTimeout(() => destroy(error), LINGER_MS);
      return socket;
    };
    socket.on("error", () => destroy());
    return super.handleConnection(socket);
  }

  onEntry(tag, time, record) {
    this.count += 1;
    if (this.file === null) return;
    const when = typeof time === "number" ? [time, 0] : [time.epoch, time.nano];
    this.lines.push(JSON.stringify([tag, when, record]) + "\n");
  }

  flush() {
    if (this.lines.length === 0) return;
    fs.writeSync(this.file, this.lines.join(""));
    this.lines = [];
  }
}

const security = options.sharedKey === null ? undefined : {
  serverHostname: "local-fluent",
  sharedKey: options.sharedKey,
  authorize: options.user !== null,
  userDict: options.user === null ? {} : { [options.user]: options.password },
};
const tlsOptions = options.certificate === null ? undefined : {
  cert: fs.readFileSync(options.certificate),
  key: fs.readFileSync(options.key),
};

const server = new Keeping({ security, tlsOptions, listenOptions: { host: options.host, port: options.port } });
let told = -1;
setInterval(() => {
  if (server.count !== told) fs.writeFileSync(options.count, String((told = server.count)));
}, COUNT_MS);
server.listen();
