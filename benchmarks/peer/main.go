// A plain parser of flow logs in Go that uses only the standard library: the peer of the parser's kernel.
//
//	peer FILE REPEATS
//
// FILE holds one JSON array of records per line, as in a segment. Each repetition parses all lines to columns in memory, and prints
// the number of tuples and the CPU seconds (user and system) of all threads.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

type group struct {
	Rule   string   `json:"rule"`
	Tuples []string `json:"flowTuples"`
}

type flow struct {
	ACL    string  `json:"aclID"`
	Groups []group `json:"flowGroups"`
}

type record struct {
	Time     string `json:"time"`
	LogID    string `json:"flowLogGUID"`
	MAC      string `json:"macAddress"`
	Category string `json:"category"`
	Resource string `json:"flowLogResourceID"`
	Target   string `json:"targetResourceID"`
	Records  struct {
		Flows []flow `json:"flows"`
	} `json:"flowRecords"`
}

type columns struct {
	time                                      []int64
	source, target, direction, state, crypt   []string
	sourcePort, targetPort, protocol          []uint16
	packetsSent, bytesSent, packetsBack, back []int64
	record                                    []*record
	rule, acl                                 []string
}

func number(text string) int64 {
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return -1 // not stated
	}
	return value
}

func (c *columns) add(r *record, acl, rule, tuple string) {
	f := strings.Split(tuple, ",")
	c.time = append(c.time, number(f[0]))
	c.source, c.target = append(c.source, f[1]), append(c.target, f[2])
	c.sourcePort, c.targetPort = append(c.sourcePort, uint16(number(f[3]))), append(c.targetPort, uint16(number(f[4])))
	c.protocol = append(c.protocol, uint16(number(f[5])))
	c.direction, c.state, c.crypt = append(c.direction, f[6]), append(c.state, f[7]), append(c.crypt, f[8])
	c.packetsSent, c.bytesSent = append(c.packetsSent, number(f[9])), append(c.bytesSent, number(f[10]))
	c.packetsBack, c.back = append(c.packetsBack, number(f[11])), append(c.back, number(f[12]))
	c.record, c.rule, c.acl = append(c.record, r), append(c.rule, rule), append(c.acl, acl)
}

func parse(line []byte) (int, error) {
	var records []record
	if err := json.Unmarshal(line, &records); err != nil {
		return 0, err
	}
	var found columns
	for at := range records {
		r := &records[at]
		for _, f := range r.Records.Flows {
			for _, g := range f.Groups {
				for _, tuple := range g.Tuples {
					found.add(r, f.ACL, g.Rule, tuple)
				}
			}
		}
	}
	return len(found.time), nil
}

func cpu() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return float64(usage.Utime.Sec+usage.Stime.Sec) + float64(usage.Utime.Usec+usage.Stime.Usec)/1e6
}

func main() {
	data, err := os.ReadFile(os.Args[1])
	if err != nil {
		panic(err)
	}
	repeats, err := strconv.Atoi(os.Args[2])
	if err != nil {
		panic(err)
	}
	lines := bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
	for range repeats {
		began, tuples := cpu(), 0
		for _, line := range lines {
			count, err := parse(line)
			if err != nil {
				panic(err)
			}
			tuples += count
		}
		fmt.Println(tuples, cpu()-began)
	}
}
