# gunicorn reads this file by itself.

# Seconds after SIGTERM for requests in flight and the answers to our goodbyes.
# The idle connections that a front end keeps count as well, so the default of
# 30 would often be waited out, and App Engine kills an instance after 30.
graceful_timeout = 3
