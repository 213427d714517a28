// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU time in /proc (USER_HZ, proc(5)). It is the same on
// all Linux platforms that Go supports.
const tick = time.Second / 100

// machineCPU returns the CPU time of all processes since boot.
func machineCPU() (time.Duration, error) {
	content, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(content), "\n")
	return ticks(strings.Fields(line), 1, 2, 3, 6, 7) // user, nice, system, irq, softirq
}

// processCPU returns the CPU time of a process since its start.
func processCPU(pid int) (time.Duration, error) {
	fields, err := processStat(pid)
	if err != nil {
		return 0, err
	}
	return ticks(fields, 14, 15) // utime, stime
}

// processStart returns the start time of a process, exact to about 20 ms.
func processStart(pid int) (time.Time, error) {
	fields, err := processStat(pid)
	if err != nil {
		return time.Time{}, err
	}
	sinceBoot, err := ticks(fields, 22) // starttime
	if err != nil {
		return time.Time{}, err
	}
	content, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return time.Time{}, err
	}
	seconds, _, _ := strings.Cut(string(content), " ")
	uptime, err := time.ParseDuration(seconds + "s")
	return time.Now().Add(sinceBoot - uptime), err
}

// processStat returns the fields of /proc/PID/stat. The index of each field is
// its number in proc(5).
func processStat(pid int) ([]string, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	_, afterName, _ := strings.Cut(string(content), ") ")
	return append([]string{"", "pid", "comm"}, strings.Fields(afterName)...), nil
}

// ticks adds up the fields with these indexes.
func ticks(fields []string, indexes ...int) (time.Duration, error) {
	var sum time.Duration
	for _, i := range indexes {
		if i >= len(fields) {
			return 0, fmt.Errorf("expected field %d in a line of /proc, found %q", i, fields)
		}
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}
