# Azurite, pinned by its lock file, for the demo profile only.
ARG NODE_IMAGE=node:22-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /opt/azurite
COPY deploy/local/azurite/package.json deploy/local/azurite/package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error

FROM ${NODE_IMAGE}
# A volume mounted on /data takes over its owner.
RUN mkdir /data && chown 10001:10001 /data
COPY --from=build /opt/azurite /opt/azurite
WORKDIR /opt/azurite
USER 10001:10001
EXPOSE 10000
ENTRYPOINT ["node", "node_modules/azurite/dist/src/blob/main.js"]
CMD ["--blobHost", "0.0.0.0", "--blobPort", "10000", "--location", "/data", "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
