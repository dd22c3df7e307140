"""The operator's command line: talks to the front door over HTTP and to nothing else."""
