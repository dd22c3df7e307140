"""What happens by the clock. This service only ticks: what is due is rows in Postgres."""
