// The OTLP/HTTP receiver of the OpenTelemetry Collector, without the rest of the collector: what it takes is appended to a file
// as OTLP's JSON, one request a line. The arguments are a port, a directory and, for TLS, files with a certificate and its key.
// Records whose serialized form contains the text in the file "refuse" of the directory are refused as by a component that cannot
// use them; with the file "busy" there, everything is refused for the time being.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
)

type kept struct {
	directory string
	file      *os.File
	lock      sync.Mutex
}

func (k *kept) take(_ context.Context, logs plog.Logs) error {
	line, err := (&plog.JSONMarshaler{}).MarshalLogs(logs)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(k.directory, "busy")); err == nil {
		return errors.New("busy")
	}
	text, err := os.ReadFile(filepath.Join(k.directory, "refuse"))
	if err == nil && len(text) > 0 && bytes.Contains(line, text) {
		return consumererror.NewPermanent(errors.New("a component refuses the records"))
	}
	k.lock.Lock()
	defer k.lock.Unlock()
	_, err = k.file.Write(append(line, '\n'))
	return err
}

func run(port, directory string, tls []string) error {
	file, err := os.OpenFile(filepath.Join(directory, "logs.jsonl"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	http := map[string]any{"endpoint": net.JoinHostPort("127.0.0.1", port)}
	if len(tls) == 2 {
		http["tls"] = map[string]any{"cert_file": tls[0], "key_file": tls[1]}
	}
	factory := otlpreceiver.NewFactory()
	config := factory.CreateDefaultConfig()
	settings := map[string]any{"protocols": map[string]any{"http": http}}
	if err := confmap.NewFromStringMap(settings).Unmarshal(&config); err != nil {
		return err
	}
	logs, err := consumer.NewLogs((&kept{directory: directory, file: file}).take)
	if err != nil {
		return err
	}
	server, err := factory.CreateLogs(context.Background(), receiver.Settings{
		ID:                component.NewID(factory.Type()),
		TelemetrySettings: componenttest.NewNopTelemetrySettings(),
		BuildInfo:         component.NewDefaultBuildInfo(),
	}, config, logs)
	if err != nil {
		return err
	}
	if err := server.Start(context.Background(), componenttest.NewNopHost()); err != nil {
		return err
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, os.Interrupt)
	<-ended
	return server.Shutdown(context.Background())
}

func main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: otelcol PORT DIRECTORY [CERTIFICATE KEY]")
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		log.Fatal(fmt.Errorf("otelcol: %w", err))
	}
}
