from nono_py import is_supported

if is_supported():
    print("Sandbox available")
else:
    print("Sandbox not available")
