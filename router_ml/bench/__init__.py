"""What a decision costs on this machine: latency, throughput, memory. Measures the core; serves no decision."""
