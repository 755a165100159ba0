"""What the simulator promises, over real sockets."""
