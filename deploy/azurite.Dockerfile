# Azurite, pinned by its lock file, for the demo profile only.
ARG NODE_IMAGE=node:22-slim
FROM ${NODE_IMAGE}
WORKDIR /opt/azurite
COPY deploy/local/azurite/package.json deploy/local/azurite/package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund && mkdir /data && chown 10001:10001 /data
USER 10001:10001
VOLUME /data
EXPOSE 10000
ENTRYPOINT ["node", "node_modules/azurite/dist/src/blob/main.js"]
CMD ["--blobHost", "0.0.0.0", "--blobPort", "10000", "--location", "/data", "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
