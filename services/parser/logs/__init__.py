"""Turn segments of application, HTTP and proxy logs into rows: the kernel and its formats. Pure."""
