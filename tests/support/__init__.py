"""What several tests share: real servers, small drivers."""
