-- Whether the data set is there, and the server's time.
return millis()
