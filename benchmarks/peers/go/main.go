// The worker pools of Go: a channel of jobs and a channel of results, ants, and pond.
//
//	go-pools SHAPE JOBS WORKERS BOUND
//
// Prints one line of JSON, as measure.h says.
package main

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/alitto/pond/v2"
	"github.com/panjf2000/ants/v2"
)

type job struct {
	index int
	value float64
}

type result struct {
	index int
	value float64
}

// channels is the pool that every introduction to Go shows: workers read jobs from one channel and write results to
// another; one goroutine produces the jobs, and the caller consumes the results.
func channels(jobs, workers, bound int) float64 {
	todo := make(chan job, bound)
	done := make(chan result, bound)
	var working sync.WaitGroup
	for range workers {
		working.Add(1)
		go func() {
			defer working.Done()
			for j := range todo {
				done <- result{j.index, math.Abs(j.value)}
			}
		}()
	}
	go func() {
		for i := range jobs {
			todo <- job{i, -float64(i)}
		}
		close(todo)
		working.Wait()
		close(done)
	}()
	sum := 0.0
	for r := range done {
		sum += r.value
	}
	return sum
}

// empty is fire and wait: jobs without a result through one channel.
func empty(jobs, workers, bound int) float64 {
	todo := make(chan func(), bound)
	var working sync.WaitGroup
	for range workers {
		working.Add(1)
		go func() {
			defer working.Done()
			for f := range todo {
				f()
			}
		}()
	}
	for range jobs {
		todo <- func() {}
	}
	close(todo)
	working.Wait()
	return 0
}

func sum(values []float64) float64 {
	total := 0.0
	for _, value := range values {
		total += value
	}
	return total
}

// antsPool and pondPool have no channel of results: each job writes its own place.
func antsPool(jobs, workers, _ int) float64 {
	pool, err := ants.NewPool(workers)
	if err != nil {
		fail(err)
	}
	defer pool.Release()
	results := make([]float64, jobs)
	var unfinished sync.WaitGroup
	for i := range jobs {
		unfinished.Add(1)
		err := pool.Submit(func() {
			results[i] = math.Abs(-float64(i))
			unfinished.Done()
		})
		if err != nil {
			fail(err)
		}
	}
	unfinished.Wait()
	return sum(results)
}

func pondPool(jobs, workers, bound int) float64 {
	pool := pond.NewPool(workers, pond.WithQueueSize(bound))
	results := make([]float64, jobs)
	for i := range jobs {
		if err := pool.Go(func() { results[i] = math.Abs(-float64(i)) }); err != nil {
			fail(err)
		}
	}
	pool.StopAndWait()
	return sum(results)
}

var shapes = map[string]func(jobs, workers, bound int) float64{
	"channels": channels,
	"empty":    empty,
	"ants":     antsPool,
	"pond":     pondPool,
}

func fail(what any) {
	fmt.Fprintln(os.Stderr, what)
	os.Exit(1)
}

type usage struct {
	wall     time.Time
	cpu      time.Duration
	switches int64
}

func usageNow() usage {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		fail(err)
	}
	cpu := time.Duration(used.Utime.Nano() + used.Stime.Nano())
	return usage{time.Now(), cpu, int64(used.Nvcsw) + int64(used.Nivcsw)}
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	if err != nil || value < 0 {
		fail(text + " is not a number")
	}
	return value
}

func main() {
	if len(os.Args) != 5 {
		fail("usage: go-pools SHAPE JOBS WORKERS BOUND")
	}
	work, ok := shapes[os.Args[1]]
	if !ok {
		fail("there is no shape " + os.Args[1])
	}
	jobs, workers, bound := number(os.Args[2]), number(os.Args[3]), number(os.Args[4])
	work(jobs/10+1, workers, bound)
	before := usageNow()
	total := work(jobs, workers, bound)
	after := usageNow()
	if expect := float64(jobs) * float64(jobs-1) / 2; os.Args[1] != "empty" && total != expect {
		fail(fmt.Sprintf("the results add up to %v instead of %v", total, expect))
	}
	n := float64(jobs)
	fmt.Printf("{\"ns\": %.3f, \"cpu_ns\": %.3f, \"switches\": %.6f}\n",
		float64(after.wall.Sub(before.wall))/n, float64(after.cpu-before.cpu)/n,
		float64(after.switches-before.switches)/n)
}
